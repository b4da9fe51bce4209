-- Up Migration
-- What is kept as history: one row a dimension, and its mapping from source columns to history columns.

create schema if not exists tidemark;
comment on schema tidemark is 'Tidemark: what turns captured changes into history, and the ledger that proves it.';

create table tidemark.dimensions (
    dimension_name text not null,
    source_schema text not null,
    source_table text not null,
    history_relation regclass not null,
    change_order text not null default 'capture',
    deletes text not null default 'none',
    source_time_zone text not null default 'UTC',
    registered_at timestamptz not null default now(),
    constraint dimensions_pkey primary key (dimension_name),
    constraint a_history_belongs_to_one_dimension unique (history_relation),
    constraint dimension_name_is_a_plain_name check (dimension_name ~ '^[A-Za-z_][A-Za-z0-9_]{0,62}$'),
    constraint change_order_is_known check (change_order in ('capture', 'effective_time')),
    constraint deletes_is_known check (deletes in ('none', 'reconcile', 'soft'))
);

comment on table tidemark.dimensions is 'History tables and the source tables they follow. Written by tidemark.register_dimension only.';
comment on column tidemark.dimensions.dimension_name is 'The name used on the command line, in batch files ("table") and as the folder of the change log.';
comment on column tidemark.dimensions.source_schema is 'Schema of the source table.';
comment on column tidemark.dimensions.source_table is 'Name of the source table.';
comment on column tidemark.dimensions.history_relation is 'The history table.';
comment on column tidemark.dimensions.change_order is 'How the changes of a key are ordered: capture (as they were read) or effective_time.';
comment on column tidemark.dimensions.deletes is 'How deletes at the source are found: none, reconcile or soft.';
comment on column tidemark.dimensions.source_time_zone is 'The zone in which timestamps without zone are to be read.';
comment on column tidemark.dimensions.registered_at is 'When the dimension was registered.';

create table tidemark.dimension_columns (
    dimension_name text not null,
    ordinal integer not null,
    source_column text not null,
    history_column text not null,
    column_role text not null,
    constraint dimension_columns_pkey primary key (dimension_name, ordinal),
    constraint a_source_column_has_one_mapping unique (dimension_name, source_column),
    constraint dimension_columns_dimension_fkey foreign key (dimension_name) references tidemark.dimensions,
    constraint column_role_is_known check (
        column_role in ('business key', 'effective time', 'insert time', 'tracked', 'untracked')
    )
);

comment on table tidemark.dimension_columns is 'The mapping of each dimension: which source column becomes which history column, and in which role.';
comment on column tidemark.dimension_columns.dimension_name is 'The dimension.';
comment on column tidemark.dimension_columns.ordinal is 'Place of the column in the mapping, from 1.';
comment on column tidemark.dimension_columns.source_column is 'Column of the source table.';
comment on column tidemark.dimension_columns.history_column is 'Column of the history table that takes its value.';
comment on column tidemark.dimension_columns.column_role is 'business key, effective time, insert time, tracked (a difference makes a new version) or untracked.';
