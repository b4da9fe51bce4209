create or replace function tidemark.alerts(
    p_window interval,
    p_now timestamptz
)
returns table (
    rule_name text,
    dimension_name text,
    severity text,
    condition text,
    measured double precision,
    since timestamptz,
    subject text,
    meaning text
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The alerts that are on at p_now, the gravest first: every indicator above the threshold of its rule, over a window that ends at p_now.
-- The view tidemark.alerts shows them for the window in tidemark.monitoring; rules and thresholds are in tidemark.alert_rules.
select
    r.rule_name, m.dimension_name, r.severity,
    concat(r.indicator, ' > ', r.threshold, case r.unit when 's' then 's' when 'share' then '' else ' ' || r.unit end),
    m.measured,
    -- A lag passed its threshold when it was that old; what else there is began when it was seen.
    case
        when r.unit = 's' and r.indicator = 'watermark_lag_seconds' then m.since + make_interval(secs => r.threshold)
        else m.since
    end,
    m.subject, r.meaning
from tidemark._alert_measurements(p_window, p_now) as m
join tidemark.alert_rules as r on r.rule_name = m.rule_name
where r.is_enabled and m.measured > r.threshold
order by array_position(array['critical', 'warning', 'info'], r.severity), r.rule_name, m.dimension_name, m.subject;
$$;

create or replace function tidemark._alert_measurements(
    p_window interval,
    p_now timestamptz
)
returns table (
    rule_name text,
    dimension_name text,
    measured double precision,
    since timestamptz,
    subject text
)
language sql
stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
-- Every indicator that a rule may watch, with the moment since which it is as it is: of the whole pipeline where dimension_name is null.
-- Windows and clock are the caller's; what is above its threshold is the business of tidemark.alerts.
with kpi as materialized (
    select * from tidemark.kpis(p_window, p_now) as k where k.dimension_name is not null
),
progress as materialized (
    select * from tidemark.table_progress(p_now)
),
in_window as materialized (
    select b.*
    from tidemark.dimensions as d
    -- "offset 0" keeps this a look into the index for each dimension, whatever the planner thinks of how many there are.
    cross join lateral (
        select n.dimension_name, n.shard, n.batch_id, n.sequence, n.previous_checksum, n.absorbed_changes, n.applied_at,
            extract(epoch from n.applied_at - n.apply_started_at)::double precision as seconds
        from tidemark.batches as n
        where n.dimension_name = d.dimension_name and n.applied_at > p_now - p_window and n.applied_at <= p_now
        offset 0
    ) as b
),
failing as (
    select f.key as dimension_name, r.pipeline_name, coalesce(f.value ->> 'since', f.value ->> 'at')::timestamptz as since
    from public.pipeline_metadata as r
    cross join lateral jsonb_each(r.performance_metrics -> 'table_errors') as f
    -- A run remembers the last fault of a table that was paused or removed since, and will never see it succeed.
    join tidemark.dimensions as d on d.dimension_name = f.key and d.paused_at is null
    where r.status = 'running' and tidemark.is_run_alive(r.performance_metrics)
)
select 'High Latency', k.dimension_name, k.batch_processing_time_p95, (
        select min(b.applied_at) from in_window as b
        where b.dimension_name = k.dimension_name and b.seconds >= k.batch_processing_time_p95
    ), null
from kpi as k
union all
select 'Processing Backlog', p.dimension_name, p.lag_seconds, p_now - make_interval(secs => p.lag_seconds), null
from progress as p where p.is_expected
union all
select 'High Duplicate Rate', k.dimension_name, k.duplicate_rate, (
        select min(b.applied_at) from in_window as b where b.dimension_name = k.dimension_name and b.absorbed_changes > 0
    ), null
from kpi as k
-- One of five is a large share, and nothing to speak of.
join tidemark.alert_rules as r on r.rule_name = 'High Duplicate Rate' and round(k.duplicate_rate * k.changes) >= r.least_changes
union all
select 'Missing Changes', k.dimension_name, k.missing_change_rate, (
        select max(r.reconciled_at) from tidemark.reconciliations as r where r.dimension_name = k.dimension_name
    ), null
from kpi as k
-- A paused history lacks what changed since, and is meant to.
join tidemark.dimensions as d on d.dimension_name = k.dimension_name and d.paused_at is null
union all
select 'Rejected Changes', r.dimension_name, count(*), min(r.rejected_at), null
from tidemark.rejected_changes as r
where r.dismissed_at is null and r.settled_at is null
group by r.dimension_name
union all
select 'Table Failing', f.dimension_name, count(*), min(f.since), string_agg(f.pipeline_name, ', ' order by f.pipeline_name)
from failing as f
group by f.dimension_name
union all
select 'No Recent Batch', p.dimension_name,
    extract(epoch from p_now - p.polled_at)::double precision / p.interval_seconds, p.polled_at, null
from progress as p where p.is_expected
union all
select 'Gap In Chain', b.dimension_name, count(*), min(b.applied_at), min(b.batch_id collate "C")
from in_window as b
left join lateral (
    select n.checksum from tidemark.batches as n
    where n.dimension_name = b.dimension_name and n.shard = b.shard and n.sequence < b.sequence
    order by n.sequence desc
    limit 1
) as before on true
where b.sequence is not null and b.previous_checksum is distinct from before.checksum
group by b.dimension_name
union all
select 'Check Violations', null, c.violations, c.failing_since, concat(c.suite, ': ', c.check_name)
from tidemark.check_results as c where c.suite <> 'alerts'
union all
select 'Disk Nearly Full', null, r.disk_utilization, r.measured_at, concat_ws(' on ', r.pipeline_name, r.host)
from tidemark.resource_kpis() as r
union all
select 'Connections Nearly Used Up', null, c.connection_pool_utilization, p_now, null
from tidemark.connection_kpis() as c
union all
select 'Slot Falls Behind', null, s.slot_retained_share, s.reported_at, s.slot
from tidemark.slot_kpis(p_now) as s
union all
select 'Slot Lost', null, 1, coalesce(s.gap_from, s.reported_at), concat(
        s.slot, ': states of rows are lost from ', coalesce(s.gap_from, s.reported_at), coalesce(' to ' || s.gap_to::text, ' on')
    )
from tidemark.slot_kpis(p_now) as s
where s.wal_status = 'lost' or (s.gap_from is not null and coalesce(s.gap_to, p_now) > p_now - p_window)
union all
select 'Events Failing', null, 1, s.last_error_at, concat(s.subscription_name, ': position ', s.failed_position, ': ', s.last_error)
from tidemark.subscription_status(p_now) as s
where s.failed_position is not null
union all
select 'Pipeline Stopped', null, 1, r.end_time at time zone 'UTC', r.pipeline_name
from (values ('extract', 'poll'), ('load', null), ('stream', 'log')) as part (pipeline_name, reads)
cross join lateral (
    select n.pipeline_name, n.status, n.end_time, n.performance_metrics from public.pipeline_metadata as n
    where n.pipeline_name = part.pipeline_name
    order by n.id desc
    limit 1
) as r
where r.status = 'succeeded' and r.performance_metrics ? 'interval_seconds'
    -- A reader that no table needs may rest.
    and (part.reads is null or exists (
        select from tidemark.dimensions as d where (d.capture = 'poll') = (part.reads = 'poll')
    ));
$$;
