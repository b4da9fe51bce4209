-- Up Migration
-- What is forgotten can be forgotten again, after a backup was restored.

-- It also returns when the last of the lines that went was captured.
drop function if exists tidemark.forget_in_batch (bigint [], json);
