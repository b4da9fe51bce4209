create or replace function tidemark.finish_run(
    p_run_id text,
    p_status text,
    p_performance_metrics jsonb
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
-- Notes how a run of the pipeline ended and what it measured. Repeating it changes nothing: only a running run is closed.
-- Runs with the rights of its owner, so that who may execute it needs none on the table.
-- Errors: TM021 where indicators could not read what the run reports.
begin
    perform tidemark._assert_metrics(p_performance_metrics);
    update public.pipeline_metadata as r
    set status = p_status,
        end_time = greatest(clock_timestamp()::timestamp, r.start_time),
        performance_metrics = r.performance_metrics || p_performance_metrics,
        updated_at = clock_timestamp()::timestamp
    where r.run_id = p_run_id and r.status = 'running';
end;
$$;

revoke execute on function tidemark.finish_run (text, text, jsonb) from public;
