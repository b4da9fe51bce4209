-- Up Migration
-- Each change has its own capture time: the ledger keeps the earliest and the latest one of a batch, and finds the latest by an index.

alter table tidemark.batches add column least_captured_at timestamptz;
alter table tidemark.batches add column greatest_captured_at timestamptz;

-- Until now every change that was applied had the capture time of its batch.
update tidemark.batches set least_captured_at = extracted_at, greatest_captured_at = extracted_at;

-- Loaders wait for a migration anyway.
-- squawk-ignore adding-not-nullable-field
alter table tidemark.batches alter column least_captured_at set not null;
-- squawk-ignore adding-not-nullable-field
alter table tidemark.batches alter column greatest_captured_at set not null;
-- squawk-ignore constraint-missing-not-valid
alter table tidemark.batches add constraint captures_of_a_batch_are_in_order check (least_captured_at <= greatest_captured_at);

-- squawk-ignore require-concurrent-index-deletion
drop index tidemark.batches_extracted_at_idx;
-- squawk-ignore require-concurrent-index-creation
create index batches_greatest_captured_at_idx on tidemark.batches (dimension_name, shard, greatest_captured_at desc);

comment on column tidemark.batches.extracted_at is 'Instant at which the batch was read; the capture time of those of its changes that state none of their own.';
comment on column tidemark.batches.least_captured_at is 'The earliest capture time of its changes, rejected ones included; extracted_at where it has no changes.';
comment on column tidemark.batches.greatest_captured_at is 'The latest capture time of its changes, rejected ones included; extracted_at where it has no changes.';
comment on column tidemark.absorbed_changes.captured_at is 'Its capture time: its own, or that of its batch.';

-- Their arguments have changed; the function files make them anew.
drop function if exists tidemark._apply_changes(tidemark.batches, json, integer [], boolean);
drop function if exists tidemark._fold_changes(tidemark.batches, json, integer [], boolean);
drop function if exists tidemark._is_in_order(text, text, text, bigint, timestamptz);
drop function if exists tidemark._find_fault(text, json, timestamptz, text []);
drop function if exists tidemark._present_names(text, text [], json, timestamptz);
drop function if exists tidemark._assert_not_pruned(text, text, timestamptz);
