-- Up Migration
-- Deletes that a source marks instead of doing them: the column, and the values that mean deleted.

alter table tidemark.dimensions add column deleted_column text;
alter table tidemark.dimensions add column deleted_values text[];
-- One row a dimension: the scan takes no time.
-- squawk-ignore constraint-missing-not-valid
alter table tidemark.dimensions add constraint soft_deletes_name_their_column check (
    (deletes = 'soft') = (deleted_column is not null) and (deleted_column is not null or deleted_values is null)
);

comment on column tidemark.dimensions.deleted_column is 'Source column that says whether a row is deleted, where deletes is soft; else null.';
comment on column tidemark.dimensions.deleted_values is 'Its values that mean deleted; null where any value that is not null does.';

comment on column public.pipeline_metadata.pipeline_name is 'What ran: extract, load, reconcile or simulate.';

-- They have grown; the function files make them anew.
drop function if exists tidemark.dimension_mappings();
drop function if exists tidemark.register_dimension(text, text, text, regclass, json, text, text, text, boolean);
