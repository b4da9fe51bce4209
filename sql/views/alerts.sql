-- The alerts that are on now, over the window in tidemark.monitoring.
create or replace view tidemark.alerts as
select a.*
from tidemark.monitoring as m
cross join lateral tidemark.alerts(m.kpi_window, clock_timestamp()) as a;

comment on view tidemark.alerts is 'The alerts that are on now, the gravest first; no row means that all is well. Rules are in tidemark.alert_rules.';
comment on column tidemark.alerts.rule_name is 'The rule.';
comment on column tidemark.alerts.dimension_name is 'The dimension it is about; null for the whole pipeline.';
comment on column tidemark.alerts.severity is 'info, warning or critical.';
comment on column tidemark.alerts.condition is 'What must hold for the alert to be on.';
comment on column tidemark.alerts.measured is 'The value now, in the unit of the rule.';
comment on column tidemark.alerts.since is 'Since when it is so, as far as ledger and reports tell: of an indicator over the window, since the first batch of it.';
comment on column tidemark.alerts.subject is 'Which check, run or batch it is about, where there is one.';
comment on column tidemark.alerts.meaning is 'What has happened, and what to do.';
