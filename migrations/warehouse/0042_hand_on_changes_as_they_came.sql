-- Up Migration
-- Changes of a batch are handed on as they came, and returned only where they have other names: another type of result.
drop function if exists tidemark._read_batch (json, json);
drop function if exists tidemark._with_present_names (text, json, timestamptz, json, json);
