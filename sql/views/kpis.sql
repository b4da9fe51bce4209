-- The indicators of the pipeline now, over the window in tidemark.monitoring.
create or replace view tidemark.kpis as
select k.*
from tidemark.monitoring as m
cross join lateral tidemark.kpis(m.kpi_window, clock_timestamp()) as k;

comment on view tidemark.kpis is 'The indicators of the pipeline now: one row a dimension, and one with dimension_name null for all together. Seconds, and shares from 0 to 1.';
comment on column tidemark.kpis.dimension_name is 'The dimension; null for all together.';
comment on column tidemark.kpis.window_start is 'Batches applied after this moment count.';
comment on column tidemark.kpis.window_end is 'Now.';
comment on column tidemark.kpis.batches is 'Batches applied in the window.';
comment on column tidemark.kpis.changes is 'Changes applied in the window.';
comment on column tidemark.kpis.records_processed_per_second is 'Changes applied for each second spent applying: how fast the warehouse takes them, not how many there were. Null without batches.';
comment on column tidemark.kpis.batch_processing_time_p50 is 'Seconds that half of the batches took at most to be applied.';
comment on column tidemark.kpis.batch_processing_time_p95 is 'The same of 95 in 100 batches.';
comment on column tidemark.kpis.batch_processing_time_p99 is 'The same of 99 in 100 batches.';
comment on column tidemark.kpis.end_to_end_latency_p50 is 'Seconds from the effective time of the newest change of a batch until the warehouse showed it, of half of the batches. A first load of old rows counts their age.';
comment on column tidemark.kpis.end_to_end_latency_p95 is 'The same of 95 in 100 batches.';
comment on column tidemark.kpis.end_to_end_latency_p99 is 'The same of 99 in 100 batches.';
comment on column tidemark.kpis.watermark_lag_seconds is 'Age of the moment up to which history holds all that was read: of the last poll where no batch waits, else of the newest batch applied. All together: of the oldest.';
comment on column tidemark.kpis.duplicate_rate is 'Share of the changes that said nothing new: read again, or without a difference in a tracked column. Not one of them makes a second version.';
comment on column tidemark.kpis.missing_change_rate is 'Share of the source rows whose state history lacked when they were last reconciled, and was not repaired. Null before the first time.';
comment on column tidemark.kpis.rejected_changes is 'Changes that wait in tidemark.rejected_changes, whatever the window.';
comment on column tidemark.kpis.pending_batches is 'Batch files that waited to be applied when a run last looked, within a day. Null where none has.';
