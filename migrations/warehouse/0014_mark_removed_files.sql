-- Up Migration
-- That the file of a batch was removed by retention is remembered, so that one that is missing is not taken for it.

alter table tidemark.batches add column file_removed_at timestamptz;
comment on column tidemark.batches.file_removed_at is 'When retention began to remove its file from the change log; null: it did not.';
