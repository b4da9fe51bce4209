create or replace function tidemark.newest_batches(
    p_dimension_name text
)
returns table (
    shard text,
    batch_id text,
    sequence bigint,
    checksum text,
    extracted_at text,
    metadata json
)
language sql
stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
-- The newest batch of every chain of a table: one row a shard, that of the whole table first. How the table was sharded last is what
-- the row with the latest extracted_at says. Looks at one batch a shard, however long the ledger is.
with recursive shards as (
    select min(b.shard) as shard from tidemark.batches as b where b.dimension_name = p_dimension_name
    union all
    select (select min(b.shard) from tidemark.batches as b where b.dimension_name = p_dimension_name and b.shard > s.shard)
    from shards as s
    where s.shard is not null
)
select s.shard, n.batch_id, n.sequence, n.checksum, to_json(n.extracted_at) #>> '{}', n.metadata
from shards as s
cross join lateral (
    select b.batch_id, b.sequence, b.checksum, b.extracted_at, b.metadata
    from tidemark.batches as b
    where b.dimension_name = p_dimension_name and b.shard = s.shard and b.sequence is not null
    order by b.sequence desc
    limit 1
) as n
order by s.shard collate "C";
$$;
