-- Up Migration
-- What is known of the rows of a source table: whether those of tables that inherit from it are its own, and whether it keeps its key
-- unique.

alter table tidemark.dimensions add column with_children boolean not null default true;
alter table tidemark.dimensions alter column with_children set default false;
alter table tidemark.dimensions add column key_is_asserted boolean not null default false;

comment on column tidemark.dimensions.with_children is
    'Whether rows of tables that inherit from the source table are read with its own; true of dimensions from before there was a choice.';
comment on column tidemark.dimensions.key_is_asserted is
    'Whether the source table need not keep the business key unique: whether it is so is looked at instead, by full sweeps and reconcile.';

-- They have grown; the function files make them anew.
drop function if exists tidemark.dimension_mappings();
drop function if exists tidemark.dimension_status();
drop function if exists tidemark.register_dimension(
    text, text, text, regclass, json, text, text, text, boolean, text, text[], text
);
