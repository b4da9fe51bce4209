-- Up Migration
-- A table may be extracted in shards, each with a chain of its own. A version names its batch and not its shard, so the name of a batch
-- is used once a table, whatever its shard: what joins versions to the ledger by it is exact, and finds its row by this index.

-- squawk-ignore require-concurrent-index-creation
create unique index a_batch_id_is_used_once on tidemark.batches (dimension_name, batch_id);

comment on column tidemark.batches.batch_id is 'Name of the batch, used once a table, and of its file without .json. It ends with the shard, where there is one.';
comment on column tidemark.batches.shard is 'The shard it was extracted by, as 2-of-4; empty for the whole table.';
