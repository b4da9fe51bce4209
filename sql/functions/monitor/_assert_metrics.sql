create or replace function tidemark._assert_metrics(
    p_performance_metrics jsonb
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
-- Refuses what a run reports where indicators and alerts could not read it, because one bad row would silence them all:
-- a run must not be able to hide the others. They read what is cast here; anything else a run may say as it likes.
-- Errors: TM021, with what cannot be read.
declare
    v_fault text;
begin
    if jsonb_typeof(p_performance_metrics) is distinct from 'object' then
        v_fault := 'it is not a JSON object';
    else
        begin
            perform m.* from jsonb_to_record(p_performance_metrics) as m (
                process_id integer, cpu_utilization double precision, memory_bytes bigint, memory_utilization double precision,
                disk_read_bytes_per_second double precision, disk_written_bytes_per_second double precision, disk_free_bytes bigint,
                disk_utilization double precision, backend_pid integer, backend_start timestamptz, shard text
            );
            perform e.batches::bigint from jsonb_each_text(p_performance_metrics -> 'pending_batches') as e (dimension_name, batches);
            perform coalesce(f.value ->> 'since', f.value ->> 'at')::timestamptz
            from jsonb_each(p_performance_metrics -> 'table_errors') as f;
            if (p_performance_metrics ->> 'interval_seconds')::double precision not between 0.001 and 1e9 then
                v_fault := 'interval_seconds is not between 0.001 and 1e9';
            elsif p_performance_metrics ->> 'shard' !~ '^([0-9]{1,4}-of-[0-9]{1,4}(-by-.+)?)?$' then
                v_fault := 'shard is no name of one';
            elsif exists (
                select
                from jsonb_each_text(p_performance_metrics -> 'table_success') as t (dimension_name, polled_at)
                where t.polled_at::timestamptz not between '1970-01-01' and '9999-12-31'
            ) then
                v_fault := 'table_success has a time that no poll can have';
            elsif exists (
                select
                from jsonb_each(p_performance_metrics -> 'table_errors') as f
                where jsonb_typeof(f.value -> 'error') is distinct from 'string' or jsonb_typeof(f.value -> 'at') is distinct from 'string'
            ) then
                v_fault := 'table_errors has one without its text or time';
            end if;
        exception
            when data_exception then
                v_fault := sqlerrm;
        end;
    end if;
    if v_fault is not null then
        raise exception using
            errcode = 'TM021',
            message = format('what the run reports cannot be read: %s', v_fault),
            hint = 'runs report through the command line; docs/operations.md says what indicators are made of';
    end if;
end;
$$;
