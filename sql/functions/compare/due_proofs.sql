create or replace function tidemark.due_proofs(
    p_interval interval
)
returns table (
    dimension_name text
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The dimensions that are captured from the log with comparisons as a proof (capture both), and that nobody has compared with their source
-- within p_interval, whoever asked for it: "reconcile --watch" compares them next. A dimension that is paused is not among them.
select d.dimension_name
from tidemark.dimensions as d
where d.capture = 'both' and d.paused_at is null
    and not exists (
        select
        from tidemark.reconciliations as r
        where r.dimension_name = d.dimension_name and r.reconciled_at > clock_timestamp() - p_interval
    )
order by d.dimension_name;
$$;
