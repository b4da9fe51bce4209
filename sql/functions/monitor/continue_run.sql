create or replace function tidemark.continue_run(
    p_run_id text,
    p_performance_metrics jsonb
)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
-- Notes what a run has measured so far, and its session, which is another one after a restart of the warehouse: a run that was
-- taken for dead meanwhile is running again. Returns whether the run is known; after a restore of the warehouse it may not be.
-- Runs with the rights of its owner, so that who may execute it needs none on the table.
-- Errors: TM021 where indicators could not read what the run reports.
begin
    perform tidemark._assert_metrics(p_performance_metrics);
    update public.pipeline_metadata as r
    set status = 'running',
        end_time = null,
        performance_metrics = r.performance_metrics || p_performance_metrics
            || jsonb_build_object('backend_pid', a.pid, 'backend_start', a.backend_start),
        updated_at = clock_timestamp()::timestamp
    from pg_stat_activity as a
    where a.pid = pg_backend_pid() and r.run_id = p_run_id and r.status in ('running', 'interrupted');

    return found;
end;
$$;

revoke execute on function tidemark.continue_run (text, jsonb) from public;
