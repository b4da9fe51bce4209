create or replace function tidemark._diff_text()
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
-- The text of <history>_diff(p_from, p_to), with the parts of tidemark._time_travel_parts.
-- A version in force at both moments is no difference, so that only those are read that were ended or opened between them. They are joined
-- by the key alone, which lets a condition on the key reach both sides.
select $text$
-- What differs between two moments{zone}, net: the rows that were not there at p_from and are at p_to (created), the other way round
-- (deleted), and those that are there at both, with another value in one of their columns (updated; changed has its name). What came
-- and went in between is not told: {changes} does that. before and after are the versions in force at p_from and
-- at p_to; their untracked columns have the last values that they had in them. No rows where p_from is not before p_to.
-- Written by tidemark.compile_dimension.
select
    {joined_keys},
    case when _before.valid_from is null then 'created' when _after.valid_from is null then 'deleted' else 'updated' end,
    _difference.columns,
    case when _before.valid_from is not null then _before::{history} end,
    case when _after.valid_from is not null then _after::{history} end
from (
    select h.*
    from {history} as h
    where h.valid_from <= {from}
        and h.valid_to > {from} and h.valid_to <= {to}
) as _before
full join (
    select h.*
    from {history} as h
    where h.valid_from > {from} and h.valid_from <= {to}
        and (h.valid_to > {to} or h.valid_to is null)
) as _after on {same_key: and}
cross join lateral (
    select case when _before.valid_from is not null and _after.valid_from is not null then array_remove(array[
        {differences}
    ]::text[], null) end
) as _difference (columns)
where _difference.columns is distinct from '{}';
$text$;
$$;
