create or replace function tidemark.table_progress(
    p_now timestamptz
)
returns table (
    dimension_name text,
    polled_at timestamptz,
    pending_batches bigint,
    newest_extracted_at timestamptz,
    newest_applied_at timestamptz,
    lag_seconds double precision,
    interval_seconds double precision,
    is_expected boolean
)
language sql
stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
-- How far each dimension has come, from what runs reported in the last day and from the ledger. Lag is the age of the moment up to which
-- history is known to hold everything: of the last poll where no batch waits, else of the newest batch that was applied (where none ever
-- was, of the registration). A table that is extracted by shards was polled when the last of its shards was; of one that has not been
-- polled at all nobody knows.
-- A table that is captured from the log is not polled: where nothing of it waits, history holds everything up to where its slot is loaded.
-- A dimension that is paused has no row: nothing is expected of it.
-- Extraction is expected while a run of "extract --watch" is under way, or was the last one and did not end on purpose; of the log, once it
-- was followed.
with recent as materialized (
    select r.id, r.pipeline_name, r.updated_at, r.performance_metrics as metrics
    from public.pipeline_metadata as r
    where r.pipeline_name in ('extract', 'load', 'stream')
        and r.updated_at >= (p_now at time zone 'UTC') - interval '1 day'
),
polled_chain as (
    select t.dimension_name, coalesce(r.metrics ->> 'shard', '') as shard, max(t.polled_at::timestamptz) as polled_at
    from recent as r
    cross join lateral jsonb_each_text(r.metrics -> 'table_success') as t (dimension_name, polled_at)
    where r.pipeline_name = 'extract'
    group by t.dimension_name, coalesce(r.metrics ->> 'shard', '')
),
polled_layout as (
    select distinct on (p.dimension_name) p.dimension_name, tidemark._shard_layout(p.shard) as layout
    from polled_chain as p
    order by p.dimension_name, p.polled_at desc
),
polled as (
    select l.dimension_name, l.layout <> '' as is_sharded,
        case when count(*) >= coalesce(substring(l.layout from '^of-([0-9]+)')::integer, 1) then min(p.polled_at) end as polled_at
    from polled_layout as l
    join polled_chain as p on p.dimension_name = l.dimension_name and tidemark._shard_layout(p.shard) = l.layout
    group by l.dimension_name, l.layout
),
pending as (
    select distinct on (p.dimension_name) p.dimension_name, p.batches::bigint as batches
    from recent as r
    cross join lateral jsonb_each_text(r.metrics -> 'pending_batches') as p (dimension_name, batches)
    join tidemark.dimensions as d on d.dimension_name = p.dimension_name
    -- A reader of the log knows nothing any more of a table that went back to polling.
    where r.pipeline_name <> 'stream' or d.capture <> 'poll'
    order by p.dimension_name, r.updated_at desc, r.id desc
),
expected as (
    select (e.performance_metrics ->> 'interval_seconds')::double precision as interval_seconds
    from (
        select r.*, r.id = max(r.id) over () as is_newest
        from (
            select * from public.pipeline_metadata as o where o.status = 'running' and o.pipeline_name = 'extract'
            union
            (select * from public.pipeline_metadata as n where n.pipeline_name = 'extract' order by n.id desc limit 1)
        ) as r
    ) as e
    where e.performance_metrics ? 'interval_seconds' and (e.status = 'running' or (e.is_newest and e.status <> 'succeeded'))
    order by e.id desc
    limit 1
)
select
    d.dimension_name, p.polled_at, w.batches, b.extracted_at, b.applied_at,
    case when k.known_until > p_now then 0 else extract(epoch from p_now - k.known_until)::double precision end,
    e.interval_seconds,
    case when d.capture = 'poll' then e.interval_seconds is not null else s.loaded_until is not null end
from tidemark.dimensions as d
-- What went over to the log is polled no more, and nobody waits for it.
left join polled as p on p.dimension_name = d.dimension_name and d.capture = 'poll'
left join pending as w on w.dimension_name = d.dimension_name
left join lateral (
    -- A document's changes may have been captured later than what it says of itself.
    select greatest(n.extracted_at, n.greatest_captured_at) as extracted_at, n.applied_at
    from tidemark.batches as n
    where n.dimension_name = d.dimension_name
    order by n.applied_at desc
    limit 1
) as b on true
left join lateral (
    select greatest(n.last_commit_time, n.complete_at) as loaded_until
    from tidemark.stream_positions as n
    where d.capture <> 'poll' and d.dimension_name = any (n.tables)
    order by 1 desc nulls last
    limit 1
) as s on true
cross join lateral (
    select case
        when coalesce(w.batches, 0) = 0 and p.is_sharded then coalesce(p.polled_at, d.registered_at)
        when coalesce(w.batches, 0) = 0 then greatest(p.polled_at, b.extracted_at, s.loaded_until)
        else coalesce(b.extracted_at, d.registered_at)
    end as known_until
) as k
left join expected as e on true
where d.paused_at is null
order by d.dimension_name;
$$;
