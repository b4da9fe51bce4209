-- A hit is an alert that is on and critical: its meaning says what to do. Thresholds are in tidemark.alert_rules.
-- Violations of other checks are left to those; warnings are shown by status and tidemark.alerts.
select a.rule_name, a.dimension_name, a.condition, a.measured, a.since, a.subject
from tidemark.alerts as a
where a.severity = 'critical' and a.rule_name <> 'Check Violations'
order by a.rule_name, a.dimension_name, a.subject;
