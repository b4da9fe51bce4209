-- Up Migration
-- What it takes to tell what was known when: changes that became known later than their batch, keys that have no versions any more, and
-- from which moment on pruning has left all that is needed.

create table tidemark.changes_known_later (
    dimension_name text not null,
    shard text not null,
    batch_id text not null,
    change_line integer not null,
    known_at timestamptz not null,
    constraint changes_known_later_pkey primary key (dimension_name, shard, batch_id, change_line),
    constraint changes_known_later_dimension_fkey foreign key (dimension_name) references tidemark.dimensions
);

comment on table tidemark.changes_known_later is
    'Changes that history did not know when their batch was applied, as all others: they were rejected then, and applied later.';
comment on column tidemark.changes_known_later.dimension_name is 'The dimension.';
comment on column tidemark.changes_known_later.shard is 'Shard of the batch.';
comment on column tidemark.changes_known_later.batch_id is 'The batch that brought the change.';
comment on column tidemark.changes_known_later.change_line is 'Its line in that batch, from 1.';
comment on column tidemark.changes_known_later.known_at is 'When it was applied, by a retry or a rebuild. Warehouse clock.';

create table tidemark.former_keys (
    dimension_name text not null,
    business_key text not null,
    constraint former_keys_pkey primary key (dimension_name, business_key),
    constraint former_keys_dimension_fkey foreign key (dimension_name) references tidemark.dimensions
);

comment on table tidemark.former_keys is
    'Keys that had versions and, at some time, none any more, for a change that was known later. They may have some again.';
comment on column tidemark.former_keys.dimension_name is 'The dimension.';
comment on column tidemark.former_keys.business_key is 'The key, as in tidemark.versions.';

alter table tidemark.dimensions add column pruned_known_at timestamptz;
comment on column tidemark.dimensions.pruned_known_at is
    'When all changes captured before pruned_before were known: what was known earlier can no longer be told. Null: nothing was pruned.';

-- When a change that was rejected was applied was not noted until now: it counts as known since its batch.
update tidemark.dimensions as d
set pruned_known_at = (
    select max(b.applied_at)
    from tidemark.batches as b
    where b.dimension_name = d.dimension_name and b.least_captured_at < d.pruned_before
)
where d.pruned_before is not null;
