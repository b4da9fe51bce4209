create or replace function tidemark.overview(
    p_window interval,
    p_buckets integer,
    p_now timestamptz
)
returns table (
    dimension_name text,
    history_table text,
    capture text,
    is_paused boolean,
    lag_seconds double precision,
    changes bigint,
    series bigint[],
    latency_p50 double precision,
    latency_p95 double precision,
    pending_batches bigint,
    rejected_changes bigint,
    versions_estimate bigint,
    current_estimate bigint,
    last_batch text,
    last_applied_at timestamptz
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- One row a dimension for those who look at all of them: its indicators over the window that ends at p_now (tidemark.kpis), the changes
-- applied in each of p_buckets parts of it, and how large it is as the planner believes (null: it was never analysed). Reads no history:
-- its cost grows with the batches of the window.
select d.dimension_name, d.history_relation::text, d.capture, d.paused_at is not null, k.watermark_lag_seconds, k.changes, s.series,
    k.end_to_end_latency_p50, k.end_to_end_latency_p95, k.pending_batches, k.rejected_changes,
    h.tuples, case when h.tuples is not null then e.tuples end, l.batch_id, l.applied_at
from tidemark.dimensions as d
cross join lateral tidemark._estimate(d.history_relation) as h (tuples)
join tidemark.kpis(p_window, p_now) as k on k.dimension_name = d.dimension_name
cross join lateral (
    select array_agg(coalesce(c.changes, 0) order by n.bucket) as series
    from generate_series(1, p_buckets) as n (bucket)
    left join (
        select least(width_bucket(
                extract(epoch from b.applied_at), extract(epoch from p_now - p_window), extract(epoch from p_now), p_buckets
            ), p_buckets) as bucket, sum(b.change_count)::bigint as changes
        from tidemark.batches as b
        where b.dimension_name = d.dimension_name and b.applied_at > p_now - p_window and b.applied_at <= p_now
        group by 1
    ) as c on c.bucket = n.bucket
) as s
left join lateral (
    select max(s.tuples) as tuples
    from pg_index as i
    cross join lateral tidemark._estimate(i.indexrelid) as s (tuples)
    where i.indrelid = d.history_relation and i.indisunique and pg_get_expr(i.indpred, i.indrelid) = 'is_current'
) as e on true
left join lateral (
    select b.batch_id, b.applied_at
    from tidemark.batches as b
    where b.dimension_name = d.dimension_name
    order by b.applied_at desc
    limit 1
) as l on true
order by d.dimension_name;
$$;

create or replace function tidemark._estimate(
    p_relation regclass
)
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- How many rows a history, or entries an index of one, has as the planner believes, those of its partitions together; null where none was
-- ever analysed.
select (sum(c.reltuples) filter (where c.reltuples >= 0))::bigint
from tidemark._history_parts(p_relation) as p (part)
join pg_class as c on c.oid = p.part;
$$;
