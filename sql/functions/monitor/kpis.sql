create or replace function tidemark.kpis(
    p_window interval,
    p_now timestamptz
)
returns table (
    dimension_name text,
    window_start timestamptz,
    window_end timestamptz,
    batches bigint,
    changes bigint,
    records_processed_per_second double precision,
    batch_processing_time_p50 double precision,
    batch_processing_time_p95 double precision,
    batch_processing_time_p99 double precision,
    end_to_end_latency_p50 double precision,
    end_to_end_latency_p95 double precision,
    end_to_end_latency_p99 double precision,
    watermark_lag_seconds double precision,
    duplicate_rate double precision,
    missing_change_rate double precision,
    rejected_changes bigint,
    pending_batches bigint
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The indicators of the pipeline over a window that ends at p_now: one row a dimension, and one with dimension_name null for all together.
-- From the ledger and what runs reported; its cost grows with the batches of the window, not with the ledger or what was ever compared.
-- The view tidemark.kpis shows it for the window in tidemark.monitoring, and comments every column.
with applied as materialized (
    select
        b.dimension_name, b.shard, b.batch_id, b.change_count, b.absorbed_changes,
        extract(epoch from b.applied_at - b.apply_started_at)::double precision as seconds,
        case
            when e.effective_time > b.applied_at then 0
            else extract(epoch from b.applied_at - e.effective_time)::double precision
        end as latency
    from tidemark.dimensions as d
    -- "offset 0" keeps this a look into the index for each dimension, whatever the planner thinks of how many there are.
    cross join lateral (
        select n.*
        from tidemark.batches as n
        where n.dimension_name = d.dimension_name and n.applied_at > p_now - p_window and n.applied_at <= p_now
        offset 0
    ) as b
    cross join lateral (
        select coalesce(
            tidemark.effective_time(b.metadata #>> '{log,last_commit_time}', 'UTC'),
            tidemark.effective_time(b.metadata #>> '{high_watermark,time}', d.source_time_zone)
        ) as effective_time
    ) as e
),
measured as (
    select
        a.dimension_name, count(*) as batches, sum(a.change_count) as changes, sum(a.seconds) as seconds,
        percentile_cont(array[0.5, 0.95, 0.99]) within group (order by a.seconds) as batch_times,
        percentile_cont(array[0.5, 0.95, 0.99]) within group (order by a.latency) as latencies
    from applied as a
    group by grouping sets ((a.dimension_name), ())
),
duplicates as (
    select a.dimension_name, count(*) as changes
    from applied as a
    join tidemark.absorbed_changes as c on c.dimension_name = a.dimension_name and c.shard = a.shard and c.batch_id = a.batch_id
    where a.absorbed_changes > 0 and c.reason = 'unchanged'
    group by grouping sets ((a.dimension_name), ())
),
compared as (
    select n.dimension_name, sum(n.source_rows) as source_rows, sum(greatest(n.missing + n.extra + n.different - n.repaired, 0)) as missed
    from tidemark.dimensions as d
    cross join lateral (
        select r.*
        from tidemark.reconciliations as r
        where r.dimension_name = d.dimension_name
        order by r.reconciled_at desc
        limit 1
    ) as n
    group by grouping sets ((n.dimension_name), ())
),
rejected as (
    select r.dimension_name, count(*) as changes
    from tidemark.rejected_changes as r
    where r.dismissed_at is null and r.settled_at is null
    group by grouping sets ((r.dimension_name), ())
),
progress as (
    select p.dimension_name, max(p.lag_seconds) as lag_seconds, sum(p.pending_batches)::bigint as pending_batches
    from tidemark.table_progress(p_now) as p
    group by grouping sets ((p.dimension_name), ())
),
scope as (
    select d.dimension_name from tidemark.dimensions as d
    union all
    select null
)
select
    s.dimension_name, p_now - p_window, p_now, coalesce(m.batches, 0), coalesce(m.changes, 0),
    m.changes / nullif(m.seconds, 0),
    m.batch_times[1], m.batch_times[2], m.batch_times[3], m.latencies[1], m.latencies[2], m.latencies[3],
    p.lag_seconds,
    case when m.changes > 0 then coalesce(u.changes, 0)::double precision / m.changes end,
    c.missed::double precision / greatest(c.source_rows, 1),
    coalesce(r.changes, 0),
    p.pending_batches
from scope as s
left join measured as m on m.dimension_name is not distinct from s.dimension_name
left join duplicates as u on u.dimension_name is not distinct from s.dimension_name
left join compared as c on c.dimension_name is not distinct from s.dimension_name
left join rejected as r on r.dimension_name is not distinct from s.dimension_name
left join progress as p on p.dimension_name is not distinct from s.dimension_name
order by s.dimension_name nulls last;
$$;
