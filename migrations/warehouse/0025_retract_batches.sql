-- Up Migration
-- A batch that was wrong is taken out of history, and can be brought back: where its changes lie meanwhile, and who did it, when and why.

alter table tidemark.batches add column retracted_at timestamptz;
comment on column tidemark.batches.retracted_at is
    'When the batch was taken out of history (tidemark.retract_batch); null while it counts. Its counts are those of when it was applied.';

alter table tidemark.absorbed_changes add column surrogate_key bigint;
comment on column tidemark.absorbed_changes.surrogate_key is
    'The version that it had opened before it was absorbed: should it open one again, it has this key. Null where there was none.';

create table tidemark.retracted_changes (
    dimension_name text not null,
    shard text not null,
    batch_id text not null,
    change_line integer not null,
    business_key text,
    cdc_operation text,
    cdc_timestamp timestamptz,
    captured_at timestamptz not null,
    surrogate_key bigint,
    rejected json,
    change json not null,
    constraint retracted_changes_pkey primary key (dimension_name, shard, batch_id, change_line),
    constraint retracted_changes_batch_fkey foreign key (dimension_name, shard, batch_id)
    references tidemark.batches deferrable initially deferred,
    constraint what_was_not_rejected_was_read check (
        rejected is not null or (business_key is not null and cdc_operation is not null and cdc_timestamp is not null)
    )
);

create index retracted_changes_business_key_idx on tidemark.retracted_changes (dimension_name, business_key);

comment on table tidemark.retracted_changes is
    'The changes of batches that are taken out of history now, all of a batch or none: the fourth place where a change may be.';
comment on column tidemark.retracted_changes.dimension_name is 'The dimension.';
comment on column tidemark.retracted_changes.shard is 'Shard of the batch.';
comment on column tidemark.retracted_changes.batch_id is 'The batch that brought the change. tidemark.retractions says since when it is out.';
comment on column tidemark.retracted_changes.change_line is 'Its line in that batch, from 1.';
comment on column tidemark.retracted_changes.business_key is 'Key of the row, as in tidemark.versions; null where it cannot be told.';
comment on column tidemark.retracted_changes.cdc_operation is 'INSERT, UPDATE or DELETE, as in tidemark.absorbed_changes; null where it was rejected.';
comment on column tidemark.retracted_changes.cdc_timestamp is 'Effective time of the change, as there; null where it was rejected.';
comment on column tidemark.retracted_changes.captured_at is 'Instant of the snapshot it was read in.';
comment on column tidemark.retracted_changes.surrogate_key is
    'The version that it had opened, whose key it takes again when the batch is restored; null where it had none.';
comment on column tidemark.retracted_changes.rejected is
    'Its row of tidemark.rejected_changes, without the change, where it was there: history did not know it. Null otherwise.';
comment on column tidemark.retracted_changes.change is 'The change, by source column; one that was rejected as it came.';

create table tidemark.retractions (
    dimension_name text not null,
    shard text not null,
    batch_id text not null,
    retracted_at timestamptz not null,
    retracted_by text not null,
    reason text not null,
    retracted_changes integer not null,
    restored_at timestamptz,
    restored_by text,
    constraint retractions_pkey primary key (dimension_name, shard, batch_id, retracted_at),
    constraint retractions_batch_fkey foreign key (dimension_name, shard, batch_id)
    references tidemark.batches deferrable initially deferred,
    constraint a_retraction_is_restored_later check (restored_at > retracted_at),
    constraint a_restore_says_who check ((restored_at is null) = (restored_by is null))
);

create unique index retractions_in_force_idx on tidemark.retractions (dimension_name, shard, batch_id) where restored_at is null;

comment on table tidemark.retractions is
    'Each time that a batch was taken out of history, for good: history did not know its changes from retracted_at until restored_at.';
comment on column tidemark.retractions.dimension_name is 'The dimension.';
comment on column tidemark.retractions.shard is 'Shard of the batch.';
comment on column tidemark.retractions.batch_id is 'The batch.';
comment on column tidemark.retractions.retracted_at is 'When it was taken out.';
comment on column tidemark.retractions.retracted_by is 'Who did.';
comment on column tidemark.retractions.reason is 'Why, in their words.';
comment on column tidemark.retractions.retracted_changes is 'How many changes it had then.';
comment on column tidemark.retractions.restored_at is 'When it was brought back; null while it is out.';
comment on column tidemark.retractions.restored_by is 'Who did; null while it is out.';
