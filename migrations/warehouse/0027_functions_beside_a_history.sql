-- Up Migration
-- More than one function stands beside a history: tidemark._create_time_travel writes them all.

drop function if exists tidemark._create_as_of(text);
