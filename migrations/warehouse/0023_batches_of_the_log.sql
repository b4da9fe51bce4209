-- Up Migration
-- The ledger says which batches were read from the write-ahead log, and which of them are a TRUNCATE.

alter table tidemark.batches add column is_logged boolean not null default false;
alter table tidemark.batches add column truncated_at timestamptz;
alter table tidemark.batches add column truncated_keys integer;
-- Loaders wait for a migration anyway.
-- squawk-ignore constraint-missing-not-valid
alter table tidemark.batches add constraint only_the_log_has_a_truncate check (truncated_at is null or is_logged);
-- squawk-ignore constraint-missing-not-valid
alter table tidemark.batches add constraint a_truncate_has_keys check ((truncated_at is null) = (truncated_keys is null));
-- squawk-ignore require-concurrent-index-creation
create index batches_truncated_idx on tidemark.batches (dimension_name, greatest_captured_at) where truncated_at is not null;

comment on column tidemark.batches.is_logged is
    'Whether it was read from the write-ahead log: then changes of one capture time are of one transaction, the last to a key counts.';
comment on column tidemark.batches.truncated_at is 'Effective time of the TRUNCATE that it is; null where it is none.';
comment on column tidemark.batches.truncated_keys is
    'Of a TRUNCATE: keys that it was noted for, a DELETE with a line each: those in force then, and those of changes that came late.';
comment on column tidemark.absorbed_changes.reason is
    'unchanged (equal to the version in force), delete (it closed one), nothing to delete, or superseded: by a later one of the same time.';
