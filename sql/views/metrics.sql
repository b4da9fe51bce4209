-- What "tidemark serve" shows Prometheus: the indicators and alerts of now as samples.
-- A value that is null is no sample, because 0 would be a claim.
create or replace view tidemark.metrics as
with kpis as (
    select * from tidemark.kpis where dimension_name is not null
),
runs as (
    select * from tidemark.resource_kpis()
),
alerts as (
    select * from tidemark.alerts
)
select s.metric, s.meaning, json_build_object('table', k.dimension_name) as labels, s.value
from kpis as k
cross join lateral (values
    ('window_batches', 'Batches applied in the window of tidemark.monitoring.', k.batches::double precision),
    ('window_changes', 'Changes applied in the window.', k.changes),
    ('records_processed_per_second', 'Changes applied for each second spent applying.', k.records_processed_per_second),
    ('watermark_lag_seconds', 'Age of the moment up to which history holds all that was read.', k.watermark_lag_seconds),
    ('duplicate_rate', 'Share of the changes of the window that said nothing new.', k.duplicate_rate),
    ('missing_change_rate', 'Share of source rows that history lacked when last reconciled, unless repaired.', k.missing_change_rate),
    ('rejected_changes', 'Changes that wait in tidemark.rejected_changes.', k.rejected_changes),
    ('pending_batches', 'Batch files that wait to be applied.', k.pending_batches)
) as s (metric, meaning, value)
union all
select s.metric, s.meaning, json_build_object('table', k.dimension_name, 'percentile', p.percentile), s.value
from kpis as k
cross join lateral (values
    ('50', k.batch_processing_time_p50, k.end_to_end_latency_p50),
    ('95', k.batch_processing_time_p95, k.end_to_end_latency_p95),
    ('99', k.batch_processing_time_p99, k.end_to_end_latency_p99)
) as p (percentile, processing_time, latency)
cross join lateral (values
    ('batch_processing_time_seconds', 'How long batches of the window took to be applied.', p.processing_time),
    ('end_to_end_latency_seconds', 'From the effective time of the newest change of a batch until the warehouse showed it.', p.latency)
) as s (metric, meaning, value)
union all
select 'runs', 'Runs that are alive.', json_build_object('pipeline', p.pipeline_name), count(r.run_id)
-- A reader is missed where a table needs it.
from (
    select 'load' as pipeline_name
    union
    select case when d.capture = 'poll' then 'extract' else 'stream' end from tidemark.dimensions as d
) as p
left join runs as r using (pipeline_name)
group by p.pipeline_name
union all
select
    'slot_seconds_behind', 'Age of the moment up to which the tables of a replication slot are loaded.', json_build_object('slot', s.slot),
    s.seconds_behind
from tidemark.slot_kpis(clock_timestamp()) as s
union all
select s.metric, s.meaning, json_build_object('subscription', e.subscription_name), s.value
from tidemark.subscription_status() as e
cross join lateral (values
    ('events_pending', 'Events that a subscription is still to be told of.', e.events_pending::double precision),
    ('events_lag_seconds', 'Age of the oldest of them.', e.events_lag_seconds)
) as s (metric, meaning, value)
union all
select
    s.metric, s.meaning,
    json_build_object('pipeline', r.pipeline_name, 'host', coalesce(r.host, ''), 'process', coalesce(r.process_id::text, '')), s.value
from runs as r
cross join lateral (values
    ('run_cpu_utilization', 'Processor time of the last round for each second; 1 is one core.', r.cpu_utilization),
    ('run_memory_bytes', 'Resident memory.', r.memory_bytes),
    ('run_memory_utilization', 'Resident memory as a share of the machine''s.', r.memory_utilization),
    ('run_disk_read_bytes_per_second', 'Bytes read from disk.', r.disk_read_bytes_per_second),
    ('run_disk_written_bytes_per_second', 'Bytes written to disk.', r.disk_written_bytes_per_second),
    ('change_log_disk_free_bytes', 'Free room on the disk of the change log.', r.disk_free_bytes),
    ('change_log_disk_utilization', 'Used share of the disk of the change log.', r.disk_utilization)
) as s (metric, meaning, value)
union all
select s.metric, s.meaning, json_build_object(), s.value
from tidemark.connection_kpis() as c
cross join lateral (values
    ('warehouse_connections', 'Sessions of the warehouse server.', c.connections::double precision),
    ('warehouse_connections_allowed', 'As many as it allows.', c.connections_allowed),
    ('connection_pool_utilization', 'Sessions as a share of those allowed.', c.connection_pool_utilization)
) as s (metric, meaning, value)
union all
select 'alerts', 'Alerts that are on.', json_build_object('severity', l.severity), count(a.rule_name)
from (values ('critical'), ('warning'), ('info')) as l (severity)
left join alerts as a using (severity)
group by l.severity
union all
select
    'alert', 'An alert that is on, as tidemark.alerts has it.',
    json_build_object(
        'alert', a.rule_name, 'severity', a.severity, 'table', coalesce(a.dimension_name, ''), 'subject', coalesce(a.subject, '')
    ), 1
from alerts as a;

comment on view tidemark.metrics is 'The indicators and alerts of now as samples for Prometheus, one row each.';
comment on column tidemark.metrics.metric is 'Its name, which tidemark_ goes before.';
comment on column tidemark.metrics.meaning is 'What it says.';
comment on column tidemark.metrics.labels is 'What it is about.';
comment on column tidemark.metrics.value is 'The value; null is no sample.';
