create or replace function tidemark._as_known_text()
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
-- The text of <history>_as_known(p_valid, p_known), with the parts of tidemark._time_travel_parts and tidemark._column_lists. It asks key
-- by key, of all that have versions or had some once, and a key is that of its versions: so a condition on the key columns reaches the
-- index, and of however many keys one at a time is in memory.
select $text$
-- The version of every row that was in force at p_valid{zone}, as the warehouse knew it at p_known{known_zone}: what
-- {as_of} would have answered then. A change is known since its batch was applied (applied_at of
-- tidemark.batches); one that was rejected, since it was applied all the same. A history that was made anew in an empty warehouse is known
-- since then.
-- surrogate_key is that under which the same change opened a version last; created_at, updated_at and columns that come from no change
-- are those of that version, where it stands today, else null.
-- Runs with the rights of its caller, who reads tables of schema tidemark too.
-- Errors: TM023 the history table was altered by hand; TM028 pruning has taken away what was known then; the message says from which
-- moment on it can be told.
-- Written by tidemark.compile_dimension.
select h.*
from (
    select distinct {stored_key_values}
    from {history} as h
    union all
    select {key_values}
    from tidemark.former_keys as f
    cross join lateral json_to_record(f.business_key::json) as c ({keys_as})
    where f.dimension_name = {dimension} and not exists (select from {versions} as h where {same_key: and})
) as c
cross join lateral tidemark.{known_function}({known_at}, {key_values}) as h
where tidemark._assert_known({dimension}, {known_at})
    and {same_key: and}
    and h.valid_from <= {valid} and (h.valid_to > {valid} or h.valid_to is null);
$text$;
$$;
