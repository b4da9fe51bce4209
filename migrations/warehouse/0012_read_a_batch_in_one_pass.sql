-- Up Migration
-- A batch is read from its two members now: a document of many megabytes is handed on in variables, not in a row of a query.

drop function if exists tidemark._read_batch(json);
