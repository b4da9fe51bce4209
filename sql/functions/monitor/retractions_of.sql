create or replace function tidemark.retractions_of(
    p_dimension_name text default null,
    p_only_out boolean default false
)
returns table (
    dimension_name text,
    batch_id text,
    retracted_at timestamptz,
    retracted_by text,
    reason text,
    retracted_changes integer,
    restored_at timestamptz,
    restored_by text
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Batches that were taken out of history (tidemark.retract_batch), the newest first: who did it, when, why, and how many changes, and
-- whether they came back; of one dimension or of all, and p_only_out only those that are out now.
select
    r.dimension_name, r.batch_id, r.retracted_at, r.retracted_by, r.reason, r.retracted_changes::integer, r.restored_at, r.restored_by
from tidemark.retractions as r
where (r.dimension_name = p_dimension_name or p_dimension_name is null) and (r.restored_at is null or not p_only_out)
order by r.retracted_at desc, r.batch_id;
$$;
