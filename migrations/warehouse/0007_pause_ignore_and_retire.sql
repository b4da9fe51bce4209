-- Up Migration
-- What happens to a dimension after its registration: it is paused, a source column is left out on purpose, or is gone.

alter table tidemark.dimensions add column paused_at timestamptz;
comment on column tidemark.dimensions.paused_at is 'Since when it is neither extracted nor loaded; null where it is not paused.';

alter table tidemark.dimension_columns add column retired_at timestamptz;
comment on column tidemark.dimension_columns.retired_at is 'Since when the source no longer has the column: extraction does not ask for it, batches that have it still load.';

create table tidemark.ignored_columns (
    dimension_name text not null,
    source_column text not null,
    constraint ignored_columns_pkey primary key (dimension_name, source_column),
    constraint ignored_columns_dimension_fkey foreign key (dimension_name) references tidemark.dimensions
);

comment on table tidemark.ignored_columns is 'Source columns that are left out of history on purpose: no warning reminds of them.';
comment on column tidemark.ignored_columns.dimension_name is 'The dimension.';
comment on column tidemark.ignored_columns.source_column is 'Column of the source table.';

-- Their results have grown; the function files make them anew.
drop function if exists tidemark.dimension_mappings();
