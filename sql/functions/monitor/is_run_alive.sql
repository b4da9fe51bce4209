create or replace function tidemark.is_run_alive(
    p_performance_metrics jsonb
)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Whether the session that a running row of pipeline_metadata names is still there.
-- A role that may not see when other sessions began has to believe their process number alone.
select exists (
    select
    from pg_stat_activity as a
    where a.pid = (p_performance_metrics ->> 'backend_pid')::integer
        and coalesce(a.backend_start = (p_performance_metrics ->> 'backend_start')::timestamptz, true)
);
$$;
