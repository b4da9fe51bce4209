-- Up Migration
-- What the person on call reads: which indicator is an alert from where on, how checks and comparisons ended, and what makes it quick.

create table tidemark.monitoring (
    is_only_row boolean not null default true,
    kpi_window interval not null default '1 hour',
    constraint monitoring_pkey primary key (is_only_row),
    constraint monitoring_has_one_row check (is_only_row),
    constraint kpi_window_is_positive check (kpi_window > interval '0')
);

comment on table tidemark.monitoring is 'How the indicators are measured: one row, which anyone who may update it can change.';
comment on column tidemark.monitoring.is_only_row is 'Always true.';
comment on column tidemark.monitoring.kpi_window is 'How far back the views tidemark.kpis and tidemark.alerts look.';

insert into tidemark.monitoring default values;

create table tidemark.alert_rules (
    rule_name text not null,
    indicator text not null,
    threshold double precision not null,
    unit text not null,
    severity text not null,
    is_enabled boolean not null default true,
    meaning text not null,
    constraint alert_rules_pkey primary key (rule_name),
    constraint severity_is_known check (severity in ('info', 'warning', 'critical')),
    constraint threshold_is_not_negative check (threshold >= 0)
);

comment on table tidemark.alert_rules is 'When an indicator is an alert. Change thresholds, severities and is_enabled by update; they hold at once.';
comment on column tidemark.alert_rules.rule_name is 'Name of the alert.';
comment on column tidemark.alert_rules.indicator is 'What is measured; the alert is on while it is above the threshold.';
comment on column tidemark.alert_rules.threshold is 'The greatest value that is no alert.';
comment on column tidemark.alert_rules.unit is 'Unit of threshold and value; a share is 0 to 1.';
comment on column tidemark.alert_rules.severity is 'info, warning or critical.';
comment on column tidemark.alert_rules.is_enabled is 'False turns the rule off.';
comment on column tidemark.alert_rules.meaning is 'What has happened, and what to do.';

insert into tidemark.alert_rules (rule_name, indicator, threshold, unit, severity, meaning)
values
(
    'High Latency', 'batch_processing_time_p95', 120, 's', 'warning',
    'Batches take long to apply: look for locks and missing indexes in the warehouse, or lower BATCH_SIZE.'
),
(
    'Processing Backlog', 'watermark_lag_seconds', 300, 's', 'critical',
    'History trails the source: see with "tidemark status" whether extractor or loader is behind, and why.'
),
(
    'High Duplicate Rate', 'duplicate_rate', 0.0001, 'share', 'warning',
    'Many changes said nothing new: updates that change no tracked column, or long transactions at the source that make it be'
    ' read again.'
),
(
    'Missing Changes', 'missing_change_rate', 0.00001, 'share', 'critical',
    'The last reconcile found rows whose state history lacks: repair them with "tidemark reconcile --repair", and find the '
    'cause.'
),
(
    'Rejected Changes', 'rejected_changes', 0, 'changes', 'critical',
    'Changes could not be applied and wait in tidemark.rejected_changes: remove the cause that each names, then apply them '
    'again.'
),
(
    'Table Failing', 'failing_tables', 0, 'tables', 'critical',
    'The last round of a table failed, and it stands still: "tidemark status" and the log say why.'
),
(
    'No Recent Batch', 'intervals_without_poll', 6, 'intervals', 'critical',
    'The extractor has missed its rounds: it hangs or died, or the source is away.'
),
(
    'Gap In Chain', 'broken_links', 0, 'batches', 'critical',
    'A batch in the ledger does not follow the one before it: look for the missing file in the change log.'
),
(
    'Check Violations', 'violations', 0, 'rows', 'critical',
    'A rule does not hold in history or ledger: "tidemark check" shows the rows.'
),
(
    'Disk Nearly Full', 'disk_utilization', 0.9, 'share', 'warning',
    'The disk of the change log fills up: prune or move processed batches. A full disk stops extraction, but loses nothing.'
),
(
    'Connections Nearly Used Up', 'connection_pool_utilization', 0.8, 'share', 'warning',
    'The warehouse is close to its max_connections: others may be refused, and Tidemark with them.'
),
(
    'Pipeline Stopped', 'stopped_services', 0, 'services', 'info',
    'A part of the pipeline that runs for ever was stopped on purpose, and nothing has taken its place.'
);

create table tidemark.check_results (
    suite text not null,
    check_name text not null,
    violations bigint not null,
    checked_at timestamptz not null,
    failing_since timestamptz,
    constraint check_results_pkey primary key (suite, check_name),
    constraint a_failing_check_has_a_beginning check ((violations > 0) = (failing_since is not null))
);

comment on table tidemark.check_results is 'How each check ended when it last ran; written by tidemark.note_checks.';
comment on column tidemark.check_results.suite is 'The suite, a folder of sql/checks.';
comment on column tidemark.check_results.check_name is 'The check, in words.';
comment on column tidemark.check_results.violations is 'How many rows broke the rule.';
comment on column tidemark.check_results.checked_at is 'When it last ran.';
comment on column tidemark.check_results.failing_since is 'When it failed first, of the times in a row that it did; null where it passed.';

create table tidemark.reconciliations (
    dimension_name text not null,
    reconciled_at timestamptz not null,
    source_rows bigint not null,
    missing bigint not null,
    extra bigint not null,
    different bigint not null,
    repaired bigint not null,
    constraint reconciliations_pkey primary key (dimension_name, reconciled_at),
    constraint reconciliations_dimension_fkey foreign key (dimension_name) references tidemark.dimensions
);

comment on table tidemark.reconciliations is 'What each comparison of source and history found; written by tidemark.note_reconciliation.';
comment on column tidemark.reconciliations.dimension_name is 'The dimension.';
comment on column tidemark.reconciliations.reconciled_at is 'When they were compared.';
comment on column tidemark.reconciliations.source_rows is 'Rows of the source.';
comment on column tidemark.reconciliations.missing is 'Rows of the source without a current version.';
comment on column tidemark.reconciliations.extra is 'Current versions without a row at the source.';
comment on column tidemark.reconciliations.different is 'Rows that say something else than their current version.';
comment on column tidemark.reconciliations.repaired is 'Changes written to repair them.';

-- squawk-ignore require-concurrent-index-creation
create index batches_applied_at_idx on tidemark.batches (dimension_name, applied_at);
-- squawk-ignore require-concurrent-index-creation
create index pipeline_metadata_updated_at_idx on public.pipeline_metadata (pipeline_name, updated_at);
