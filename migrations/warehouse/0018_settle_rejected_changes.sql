-- Up Migration
-- A rejected change is settled when a later change of its key is applied: kept, with what settled it, and not waited for any more. Several
-- are dismissed at once. A share that is an alert needs a least number besides.

alter table tidemark.rejected_changes add column settled_at timestamptz;
alter table tidemark.rejected_changes add column settled_by_batch text;
alter table tidemark.rejected_changes add column settled_by_line integer;
-- Rejected changes are few: the table is read in an instant.
-- squawk-ignore constraint-missing-not-valid
alter table tidemark.rejected_changes add constraint what_is_settled_says_by_what check (
    (settled_at is null) = (settled_by_batch is null) and (settled_at is null) = (settled_by_line is null)
);
-- squawk-ignore require-concurrent-index-creation
create index rejected_changes_waiting_idx on tidemark.rejected_changes (dimension_name, business_key)
where dismissed_at is null and settled_at is null;

comment on table tidemark.rejected_changes is
    'Changes that could not be applied: they wait for their cause to be removed, were settled by a later change, or dismissed.';
comment on column tidemark.rejected_changes.settled_at is 'When a later change of its key had been applied; null where none was.';
comment on column tidemark.rejected_changes.settled_by_batch is 'The batch of that change.';
comment on column tidemark.rejected_changes.settled_by_line is 'Its line in that batch.';

drop function if exists tidemark.dismiss_rejected(text, text, integer, text);

alter table tidemark.alert_rules add column least_changes bigint not null default 0;
comment on column tidemark.alert_rules.least_changes is
    'How many changes must make up the share, for an indicator that is a share of all changes: one of five is no alert.';
update tidemark.alert_rules set least_changes = 100 where rule_name = 'High Duplicate Rate';
update tidemark.alert_rules
set meaning = 'The last reconcile found rows whose state history lacks, and did not repair them: "tidemark reconcile --repair", and find '
    'the cause.'
where rule_name = 'Missing Changes';
update tidemark.alert_rules
set meaning = 'Changes could not be applied and wait in tidemark.rejected_changes: remove the cause that each names, then apply them '
    'again. A later change of the same key settles one.'
where rule_name = 'Rejected Changes';
