-- Up Migration
-- The statements that make history are functions now, compiled for each dimension; those that wrote the statements are gone.

alter table tidemark.dimensions add column compiled_from text;
comment on column tidemark.dimensions.compiled_from is
    'What its history functions were compiled from: a fingerprint of history table and mapping (tidemark.compile_dimension).';

drop function if exists tidemark._apply_statement(text);
drop function if exists tidemark._untracked_fragments(text);
drop function if exists tidemark._converge_statement(text);
drop function if exists tidemark._slice_template();
drop function if exists tidemark._converge_fragments(text);
drop function if exists tidemark._place_statement(text);
drop function if exists tidemark._meets_incomplete_version(text, json);
drop function if exists tidemark._standing_condition(text);
drop function if exists tidemark._statement_fragments(text);
drop function if exists tidemark._fill_template(text, json);
drop function if exists tidemark._replay_fragments(text);
drop function if exists tidemark._version_fragments(text);
drop function if exists tidemark._column_expressions(text);
