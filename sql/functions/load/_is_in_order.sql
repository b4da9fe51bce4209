-- One look at the ledger: was this batch captured after all that is loaded? Of batches captured at one instant the greater
-- sequence is the later one, a document from outside the chain is later than those of the chain, and else the greater name.
-- A shard looks at itself, at batches of the whole table, and at shards of other layouts, which may have had its keys; the whole table
-- looks at every shard. Shards of its own layout have none of its keys.
-- Looks at the newest batch of each shard and at no other, however long the ledger is.
create or replace function tidemark._is_in_order(
    p_dimension_name text,
    p_shard text,
    p_batch_id text,
    p_sequence bigint,
    p_extracted_at timestamptz
)
returns boolean
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
with recursive shards as (
    select min(b.shard) as shard from tidemark.batches as b where b.dimension_name = p_dimension_name
    union all
    select (select min(b.shard) from tidemark.batches as b where b.dimension_name = p_dimension_name and b.shard > s.shard)
    from shards as s
    where s.shard is not null
),
newest as (
    select n.*
    from shards as s
    cross join lateral (
        select b.extracted_at, coalesce(b.sequence, 9223372036854775807) as sequence,
            b.batch_id collate "C" as batch_id, b.shard collate "C" as shard
        from tidemark.batches as b
        where b.dimension_name = p_dimension_name and b.shard = s.shard
        order by b.extracted_at desc, b.sequence desc nulls first, b.batch_id collate "C" desc
        limit 1
    ) as n
    where s.shard = p_shard or tidemark._shard_layout(s.shard) <> tidemark._shard_layout(p_shard)
)
select coalesce(bool_and(
    (n.extracted_at, n.sequence, n.batch_id, n.shard)
    < (p_extracted_at, coalesce(p_sequence, 9223372036854775807), p_batch_id collate "C", p_shard collate "C")
), true)
from newest as n;
$$;
