create or replace function tidemark.prune_reports(
    p_before timestamptz
)
returns table (
    runs bigint,
    reconciliations bigint
)
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Forgets what was reported before p_before: runs that have ended, but for the newest of each part, and comparisons with the source,
-- but for the newest of each dimension, which indicators look at. A run that has no end stays.
-- Safe to repeat; returns how many of each went.
-- Runs with the rights of its owner, so that who may execute it needs none on the tables.
with gone_runs as (
    delete from public.pipeline_metadata as r
    where r.end_time < p_before at time zone 'UTC'
        and r.id < (select max(n.id) from public.pipeline_metadata as n where n.pipeline_name = r.pipeline_name)
    returning 1
),
gone_reconciliations as (
    delete from tidemark.reconciliations as r
    where r.reconciled_at < p_before
        and r.reconciled_at < (select max(n.reconciled_at) from tidemark.reconciliations as n where n.dimension_name = r.dimension_name)
    returning 1
)
select (select count(*) from gone_runs), (select count(*) from gone_reconciliations);
$$;

revoke execute on function tidemark.prune_reports (timestamptz) from public;
