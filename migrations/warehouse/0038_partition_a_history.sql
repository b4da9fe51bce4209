-- Up Migration
-- A history table gets partitions, or loses them, while it is loaded: where that stands.

create table tidemark.partitionings (
    dimension_name text not null,
    partitions integer not null,
    history_relation regclass not null,
    history_shape text not null,
    copy_relation regclass not null,
    changes_relation regclass not null,
    begun_at timestamptz not null default clock_timestamp(),
    begun_by text not null default session_user,
    compared_at timestamptz,
    is_void boolean not null default false,
    constraint partitionings_pkey primary key (dimension_name),
    constraint partitionings_dimension_fkey foreign key (dimension_name) references tidemark.dimensions (dimension_name),
    constraint number_of_partitions_is_known check (partitions = 0 or partitions between 2 and 1024)
);

comment on table tidemark.partitionings is
    'Histories that are being made partitioned, or plain, by a copy: a row goes when the copy takes its place, or is given up.';
comment on column tidemark.partitionings.dimension_name is 'The dimension.';
comment on column tidemark.partitionings.partitions is 'How many partitions it is to have; 0: none, a plain table.';
comment on column tidemark.partitionings.history_relation is 'The history table that is copied.';
comment on column tidemark.partitionings.history_shape is 'Its columns and checks when the copy began: after they were altered the copy is good for nothing.';
comment on column tidemark.partitionings.copy_relation is 'The table that is to take its place.';
comment on column tidemark.partitionings.changes_relation is
    'Versions that were written since the copy began and are to be copied once more: three triggers of the history table list them.';
comment on column tidemark.partitionings.begun_at is 'When the copy began.';
comment on column tidemark.partitionings.begun_by is 'The role that began it.';
comment on column tidemark.partitionings.compared_at is 'When all of the copy was last found to be what the history is; null: not yet.';
comment on column tidemark.partitionings.is_void is
    'True where something was done to the history table that cannot be followed: the copy is begun anew.';
