create or replace function tidemark._changes_text()
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
-- The text of <history>_changes(p_from, p_to), with the parts of tidemark._time_travel_parts.
-- A version that another one follows without a gap is no end: so the ends are those of lives. Who ended a life stands among the absorbed
-- changes, as of a key whose delete was pruned it does no more.
select $text$
-- Every version opened and every life ended after p_from and not after p_to{zone}: what was made of {as_of} at
-- p_from is, with these in their order, that of p_to. what is created where a life begins, updated, or deleted where one ends; changed
-- has the columns of an update in which before and after, the versions on either side, differ: untracked ones by their last values.
-- Batch and line are those of the change that did it, with the times when it was captured and its batch applied; null where a delete is
-- not known any more.
-- Written by tidemark.compile_dimension.
select
    {after_keys},
    case when _before.valid_from is null then 'created' else 'updated' end, _after.valid_from,
    case when _before.valid_from is not null then array_remove(array[
        {differences}
    ]::text[], null) end,
    _after.batch_id::text, _after.change_line::integer, _after.captured_at::timestamptz, _batch.applied_at,
    _before, _after
from {history} as _after
left join {history} as _before on {same_key: and} and _before.valid_to = _after.valid_from
left join tidemark.batches as _batch on _batch.dimension_name = {dimension} and _batch.batch_id = _after.batch_id
where _after.valid_from > {from} and _after.valid_from <= {to}
union all
select
    {before_keys},
    'deleted', _before.valid_to, null,
    _delete.batch_id, _delete.change_line, _delete.captured_at, _batch.applied_at,
    _before, null
from {history} as _before
left join {history} as _after on {same_key: and} and _after.valid_from = _before.valid_to
left join tidemark.absorbed_changes as _delete
    on _delete.dimension_name = {dimension} and _delete.business_key = json_build_object({printed_key})::text
        and _delete.reason = 'delete' and _delete.closed_at = _before.valid_to{at_utc}
left join tidemark.batches as _batch
    on _batch.dimension_name = _delete.dimension_name and _batch.shard = _delete.shard and _batch.batch_id = _delete.batch_id
where _before.valid_to > {from} and _before.valid_to <= {to} and _after.valid_from is null;
$text$;
$$;
