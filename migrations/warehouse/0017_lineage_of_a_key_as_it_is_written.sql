-- Up Migration
-- The key of tidemark.lineage may be a text, a number, a uuid, or an array of texts: one function takes them all.

drop function if exists tidemark.lineage(text, text []);
