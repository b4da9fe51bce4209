create or replace function tidemark.newest_batch(
    p_dimension_name text,
    p_shard text
)
returns table (
    batch_id text,
    sequence bigint,
    checksum text,
    metadata json
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The newest batch of the chain that the ledger knows for a table and shard: where loading stands, and where extraction
-- goes on when its change log is gone. No row where nothing was loaded.
select b.batch_id, b.sequence, b.checksum, b.metadata
from tidemark.batches as b
where b.dimension_name = p_dimension_name and b.shard = p_shard and b.sequence is not null
order by b.sequence desc
limit 1;
$$;
