-- Up Migration
-- Columns that analysts are not to see: tidemark.mask_column says which, tidemark.grant_statements leaves them out.

alter table tidemark.dimension_columns add column masked_at timestamptz;
comment on column tidemark.dimension_columns.masked_at is
    'Since when analysts are not to see the values of the column (tidemark.mask_column); null: they may.';
