-- Up Migration
-- Histories that Citus distributes over nodes. Functions are written anew after migrations.
alter table tidemark.dimensions add column distributed_by text;
alter table tidemark.dimensions add column compiled_for_nodes text;
comment on column tidemark.dimensions.distributed_by is
'The key column by whose hash Citus distributes the history over nodes; null where it is a table of this server.';
comment on column tidemark.dimensions.compiled_for_nodes is
'What the functions on its nodes must be written from, in short; others are written anew. Null where it is no such history.';

drop function if exists tidemark.register_dimension (
    text, text, text, regclass, json, text, text, text, boolean, text, text [], text, boolean, boolean, text
);
drop function if exists tidemark._compiled_definition (text, text, text);
