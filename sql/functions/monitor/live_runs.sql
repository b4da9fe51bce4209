create or replace function tidemark.live_runs()
returns table (
    pipeline_name text,
    run_id text,
    start_time timestamp,
    performance_metrics jsonb
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The runs whose sessions are alive, oldest first: what works on this warehouse now, from whatever machine.
select r.pipeline_name, r.run_id, r.start_time, r.performance_metrics
from public.pipeline_metadata as r
where r.status = 'running' and tidemark.is_run_alive(r.performance_metrics)
order by r.start_time, r.run_id;
$$;
