-- Up Migration
-- A rejected change whose cause is past for good is dismissed: kept, with who decided it and why, and no longer waited for.

alter table tidemark.rejected_changes add column dismissed_at timestamptz;
alter table tidemark.rejected_changes add column dismissed_by text;
alter table tidemark.rejected_changes add column dismiss_reason text;
-- Rejected changes are few: the table is read in an instant.
-- squawk-ignore constraint-missing-not-valid
alter table tidemark.rejected_changes add constraint a_dismissal_says_who_and_why check (
    (dismissed_at is null) = (dismissed_by is null) and (dismissed_at is null) = (dismiss_reason is null)
);

comment on table tidemark.rejected_changes is 'Changes that could not be applied and wait for their cause to be removed, or were dismissed.';
comment on column tidemark.rejected_changes.dismissed_at is 'When somebody decided that it need not be applied; null while it waits.';
comment on column tidemark.rejected_changes.dismissed_by is 'Who did: a role of the warehouse.';
comment on column tidemark.rejected_changes.dismiss_reason is 'Why, in their words.';

-- Former names are told from present ones by what a batch says of its columns; several members are renamed at once.
drop function if exists tidemark._with_present_names(text, json, json);
drop function if exists tidemark._rename_member(json, text, text);
-- What a dry run shows of a change includes its values.
drop function if exists tidemark.transaction_effects(text, integer);
