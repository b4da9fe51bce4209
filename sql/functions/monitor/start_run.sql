create or replace function tidemark.start_run(
    p_pipeline_name text,
    p_run_id text,
    p_seconds_ago double precision,
    p_performance_metrics jsonb
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
-- Notes that a run of the pipeline began p_seconds_ago, and in which session, so that a check can tell a live run from a dead one.
-- A run whose session is gone is closed as interrupted. The caller keeps its session until tidemark.finish_run.
-- The age of the run is given and not its beginning, because the runner's clock may be another.
-- Runs with the rights of its owner, so that who may execute it needs none on the table.
-- Errors: TM021 where indicators could not read what the run reports.
declare
    v_now timestamp := clock_timestamp()::timestamp;
begin
    perform tidemark._assert_metrics(p_performance_metrics);
    update public.pipeline_metadata as r
    set status = 'interrupted', end_time = greatest(v_now, r.start_time), updated_at = v_now
    where r.status = 'running' and not tidemark.is_run_alive(r.performance_metrics);

    insert into public.pipeline_metadata (pipeline_name, run_id, start_time, status, performance_metrics, created_at, updated_at)
    select p_pipeline_name, p_run_id, v_now - make_interval(secs => p_seconds_ago), 'running',
        p_performance_metrics || jsonb_build_object('backend_pid', a.pid, 'backend_start', a.backend_start), v_now, v_now
    from pg_stat_activity as a
    where a.pid = pg_backend_pid();
end;
$$;

revoke execute on function tidemark.start_run (text, text, double precision, jsonb) from public;
