create or replace function tidemark.resource_kpis()
returns table (
    pipeline_name text,
    run_id text,
    host text,
    process_id integer,
    measured_at timestamptz,
    cpu_utilization double precision,
    memory_bytes bigint,
    memory_utilization double precision,
    disk_read_bytes_per_second double precision,
    disk_written_bytes_per_second double precision,
    disk_free_bytes bigint,
    disk_utilization double precision
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- What each run that is alive uses of its machine, as it reported after its last round: one row a run.
-- Shares are 0 to 1; of the processor, 1 is one core. A figure that its machine does not give is null.
select
    r.pipeline_name, r.run_id, r.performance_metrics ->> 'host', m.process_id, r.updated_at at time zone 'UTC',
    m.cpu_utilization, m.memory_bytes, m.memory_utilization,
    m.disk_read_bytes_per_second, m.disk_written_bytes_per_second, m.disk_free_bytes, m.disk_utilization
from public.pipeline_metadata as r
cross join lateral jsonb_to_record(r.performance_metrics) as m (
    process_id integer,
    cpu_utilization double precision,
    memory_bytes bigint,
    memory_utilization double precision,
    disk_read_bytes_per_second double precision,
    disk_written_bytes_per_second double precision,
    disk_free_bytes bigint,
    disk_utilization double precision
)
where r.status = 'running' and tidemark.is_run_alive(r.performance_metrics)
order by r.pipeline_name, r.run_id;
$$;
