create or replace function tidemark.consistent_until(
    p_dimension_names text []
)
returns table (
    consistent_from timestamptz,
    consistent_until timestamptz,
    reason text
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The moments at which all these histories together show a state that a transaction of the source could have seen: after consistent_from
-- and up to consistent_until, in which they are complete. One row. consistent_until is null where there is no such moment, and reason says
-- for which table: it is polled, its versions have the times of a column, no stream keeps it, or its hand-off is not passed yet.
-- Where a change waits among the rejected, or a batch is retracted, reason names its table, and the moments end before it.
-- Every table of one slot is loaded up to one position, and commits have their order as their times: so what is loaded up to a position
-- is complete up to the time of its last commit, quiet tables included.
with asked as (
    select distinct a.name from unnest(p_dimension_names) as a (name)
),
kept as (
    select a.name, d.commit_times_from, s.last_commit_time, w.waits_from, o.retracted_from,
        case
            when d.dimension_name is null then 'there is no such dimension'
            when d.capture = 'poll' then 'it is polled'
            when d.effective_time <> 'capture' then 'its versions have the times of a column, not of commits'
            when s.last_commit_time is null then 'no stream keeps it'
            when d.commit_times_from >= s.last_commit_time then 'its hand-off is not passed yet'
        end as fault
    from asked as a
    left join tidemark.dimensions as d on d.dimension_name = a.name
    left join lateral (
        select min(p.last_commit_time) as last_commit_time from tidemark.stream_positions as p where a.name = any (p.tables)
    ) as s on true
    left join lateral (
        select min(tidemark._capture_time(r.change, b.extracted_at)) as waits_from
        from tidemark.rejected_changes as r
        join tidemark.batches as b on b.dimension_name = r.dimension_name and b.shard = r.shard and b.batch_id = r.batch_id
        where r.dimension_name = a.name and r.dismissed_at is null and r.settled_at is null
    ) as w on true
    left join lateral (
        select min(r.captured_at) as retracted_from from tidemark.retracted_changes as r where r.dimension_name = a.name
    ) as o on true
),
together as (
    select
        max(k.commit_times_from) as begins,
        min(least(
            k.last_commit_time, k.waits_from - interval '1 microsecond', k.retracted_from - interval '1 microsecond'
        )) as ends,
        string_agg(k.name || ': ' || k.fault, '; ' order by k.name) as fault,
        string_agg(
            k.name || case when k.waits_from is not null then ': a change waits among the rejected' else ': a batch is retracted' end,
            '; ' order by k.name
        )
            filter (where k.waits_from is not null or k.retracted_from is not null) as waiting
    from kept as k
)
select
    case when t.fault is null and t.ends > coalesce(t.begins, '-infinity') then t.begins end,
    case when t.fault is null and t.ends > coalesce(t.begins, '-infinity') then t.ends end,
    coalesce(t.fault, t.waiting)
from together as t;
$$;
