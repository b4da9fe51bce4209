-- Up Migration
-- What may be forgotten is remembered: up to which capture absorbed changes were pruned, and how many of each batch.

alter table tidemark.dimensions add column pruned_before timestamptz;
comment on column tidemark.dimensions.pruned_before is
'Absorbed changes captured before this were pruned where they could matter no more; a batch from before it is refused. Null: none.';

alter table tidemark.batches add column pruned_changes integer;
comment on column tidemark.batches.pruned_changes is 'How many of its absorbed changes were pruned since; null: none.';
