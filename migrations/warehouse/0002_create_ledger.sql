-- Up Migration
-- The ledger: every batch applied, and what became of the changes that opened no version.

create table tidemark.batches (
    dimension_name text not null,
    shard text not null default '',
    batch_id text not null,
    sequence bigint,
    extracted_at timestamptz not null,
    change_count integer not null,
    previous_checksum text,
    checksum text not null,
    metadata json not null,
    inserted_versions integer not null,
    closed_versions integer not null,
    absorbed_changes integer not null,
    corrected_versions integer not null default 0,
    late_changes integer not null default 0,
    rejected_changes integer not null default 0,
    apply_started_at timestamptz not null,
    applied_at timestamptz not null,
    constraint batches_pkey primary key (dimension_name, shard, batch_id),
    constraint a_sequence_is_used_once unique (dimension_name, shard, sequence),
    constraint batches_dimension_fkey foreign key (dimension_name) references tidemark.dimensions,
    constraint sequence_starts_at_one check (sequence >= 1),
    constraint change_count_is_not_negative check (change_count >= 0)
);

create index batches_extracted_at_idx on tidemark.batches (dimension_name, shard, extracted_at desc);

comment on table tidemark.batches is 'The ledger: one row for every batch applied, written in the transaction that applied it.';
comment on column tidemark.batches.dimension_name is 'The dimension the batch belongs to.';
comment on column tidemark.batches.shard is 'The shard it was extracted by; empty for a table that is not sharded.';
comment on column tidemark.batches.batch_id is 'Name of the batch, and of its file without .json.';
comment on column tidemark.batches.sequence is 'Place in the chain of the table and shard, from 1; null for a document from outside the chain.';
comment on column tidemark.batches.extracted_at is 'Instant of the source snapshot the batch was read in.';
comment on column tidemark.batches.change_count is 'Number of changes in the batch.';
comment on column tidemark.batches.previous_checksum is 'Checksum of the batch before it in the chain; null for the first.';
comment on column tidemark.batches.checksum is 'SHA-256 of the change lines, in hexadecimal.';
comment on column tidemark.batches.metadata is 'batch_metadata of the document, as it came.';
comment on column tidemark.batches.inserted_versions is 'Versions the batch opened.';
comment on column tidemark.batches.closed_versions is 'Versions the batch closed, those it had itself opened included.';
comment on column tidemark.batches.absorbed_changes is 'Changes that opened no version: repeats, deletes.';
comment on column tidemark.batches.corrected_versions is 'Versions of earlier batches that a late change of this one altered.';
comment on column tidemark.batches.late_changes is 'Changes that belonged before one already loaded.';
comment on column tidemark.batches.rejected_changes is 'Changes set aside because they could not be read.';
comment on column tidemark.batches.apply_started_at is 'Warehouse clock when applying began.';
comment on column tidemark.batches.applied_at is 'Warehouse clock when applying was done.';

create table tidemark.absorbed_changes (
    dimension_name text not null,
    shard text not null,
    batch_id text not null,
    change_line integer not null,
    business_key text not null,
    cdc_operation text not null,
    cdc_timestamp timestamptz not null,
    captured_at timestamptz not null,
    reason text not null,
    closed_at timestamptz,
    change json not null,
    constraint absorbed_changes_pkey primary key (dimension_name, shard, batch_id, change_line),
    constraint absorbed_changes_batch_fkey foreign key (dimension_name, shard, batch_id)
    references tidemark.batches deferrable initially deferred,
    constraint absorbed_operation_is_known check (cdc_operation in ('INSERT', 'UPDATE', 'DELETE')),
    constraint absorbed_reason_is_known check (reason in ('unchanged', 'delete', 'nothing to delete', 'superseded')),
    constraint only_a_delete_closes check (closed_at is null or reason = 'delete')
);

create index absorbed_changes_business_key_idx on tidemark.absorbed_changes (dimension_name, business_key);

comment on table tidemark.absorbed_changes is 'Changes that are true but opened no version. Kept, because a change loaded later may make one of them matter.';
comment on column tidemark.absorbed_changes.dimension_name is 'The dimension.';
comment on column tidemark.absorbed_changes.shard is 'Shard of the batch.';
comment on column tidemark.absorbed_changes.batch_id is 'The batch that brought the change.';
comment on column tidemark.absorbed_changes.change_line is 'Its line in that batch, from 1.';
comment on column tidemark.absorbed_changes.business_key is 'Key of the row, as in tidemark.versions.';
comment on column tidemark.absorbed_changes.cdc_operation is 'INSERT, UPDATE or DELETE, as the change said.';
comment on column tidemark.absorbed_changes.cdc_timestamp is 'Effective time of the change; a time without zone is shown as if it were UTC.';
comment on column tidemark.absorbed_changes.captured_at is 'Instant of the snapshot it was read in.';
comment on column tidemark.absorbed_changes.reason is 'unchanged (equal to the version in force), delete (it closed one), nothing to delete, or superseded.';
comment on column tidemark.absorbed_changes.closed_at is 'For a delete: valid_to of the version it closed.';
comment on column tidemark.absorbed_changes.change is 'The change, by source column.';

create table tidemark.rejected_changes (
    dimension_name text not null,
    shard text not null,
    batch_id text not null,
    change_line integer not null,
    reason text not null,
    column_name text,
    change json not null,
    rejected_at timestamptz not null,
    constraint rejected_changes_pkey primary key (dimension_name, shard, batch_id, change_line),
    constraint rejected_changes_batch_fkey foreign key (dimension_name, shard, batch_id)
    references tidemark.batches deferrable initially deferred
);

comment on table tidemark.rejected_changes is 'Changes that could not be applied and wait for their cause to be removed.';
comment on column tidemark.rejected_changes.dimension_name is 'The dimension.';
comment on column tidemark.rejected_changes.shard is 'Shard of the batch.';
comment on column tidemark.rejected_changes.batch_id is 'The batch that brought the change.';
comment on column tidemark.rejected_changes.change_line is 'Its line in that batch, from 1.';
comment on column tidemark.rejected_changes.reason is 'Why it could not be applied, in the words of the error.';
comment on column tidemark.rejected_changes.column_name is 'The column at fault, where it is one column.';
comment on column tidemark.rejected_changes.change is 'The change as it came.';
comment on column tidemark.rejected_changes.rejected_at is 'When it was set aside.';
