-- Up Migration
-- History columns become wider by themselves, where that rewrites nothing: what each was, and which batch it was for.

create table tidemark.retyped_columns (
    dimension_name text not null,
    history_column text not null,
    former_type text not null,
    type text not null,
    shard text,
    batch_id text,
    retyped_at timestamptz not null default clock_timestamp(),
    constraint retyped_columns_pkey primary key (dimension_name, history_column, retyped_at),
    constraint retyped_columns_dimension_fkey foreign key (dimension_name) references tidemark.dimensions
);

comment on table tidemark.retyped_columns is 'History columns that were given another type, by a batch of a wider source or by a migration.';
comment on column tidemark.retyped_columns.dimension_name is 'The dimension.';
comment on column tidemark.retyped_columns.history_column is 'The column.';
comment on column tidemark.retyped_columns.former_type is 'What it was.';
comment on column tidemark.retyped_columns.type is 'What it became.';
comment on column tidemark.retyped_columns.shard is 'Shard of the batch; empty for the whole table, null where a migration did it.';
comment on column tidemark.retyped_columns.batch_id is 'The batch that was the first to need it; null where a migration did it.';
comment on column tidemark.retyped_columns.retyped_at is 'When.';
