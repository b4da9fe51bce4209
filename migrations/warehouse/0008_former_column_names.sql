-- Up Migration
-- Batches outlive a rename at the source: what a column was called when they were written.

create table tidemark.former_column_names (
    dimension_name text not null,
    former_name text not null,
    source_column text not null,
    renamed_at timestamptz not null default now(),
    constraint former_column_names_pkey primary key (dimension_name, former_name, source_column),
    constraint former_column_names_dimension_fkey foreign key (dimension_name) references tidemark.dimensions
);

comment on table tidemark.former_column_names is 'What mapped source columns were called before they were renamed; batches of that time still load.';
comment on column tidemark.former_column_names.dimension_name is 'The dimension.';
comment on column tidemark.former_column_names.former_name is 'The name that batches from before the rename use.';
comment on column tidemark.former_column_names.source_column is 'The name of today, as in tidemark.dimension_columns.';
comment on column tidemark.former_column_names.renamed_at is 'When the mapping followed the rename.';
