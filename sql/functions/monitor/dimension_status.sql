create or replace function tidemark.dimension_status()
returns table (
    dimension_name text,
    total bigint,
    current bigint,
    historical bigint,
    last_batch text,
    last_applied_at timestamptz,
    deletes text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Where each dimension stands: its versions, its last batch, and how deletes at its source are found. One row a dimension, also of one
-- without history.
-- Reads every history once; of the ledger it looks at one batch a shard, however long it is.
#variable_conflict use_column
begin
    return query
    with counted as (
        select h.dimension_name, count(*) as total, count(*) filter (where h.is_current) as current
        from tidemark.versions as h
        group by h.dimension_name
    )
    select d.dimension_name, coalesce(v.total, 0), coalesce(v.current, 0), coalesce(v.total - v.current, 0), b.batch_id, b.applied_at,
        d.deletes
    from tidemark.dimensions as d
    left join counted as v on v.dimension_name = d.dimension_name
    left join lateral tidemark._last_batch(d.dimension_name) as b on true
    order by d.dimension_name;
end;
$$;

create or replace function tidemark._last_batch(
    p_dimension_name text
)
returns table (
    batch_id text,
    applied_at timestamptz
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The batch of a dimension that brought the latest change. Looks at one batch a shard, however long the ledger is.
with recursive shards as (
    select min(n.shard) as shard from tidemark.batches as n where n.dimension_name = p_dimension_name
    union all
    select (select min(n.shard) from tidemark.batches as n where n.dimension_name = p_dimension_name and n.shard > s.shard)
    from shards as s
    where s.shard is not null
)
select l.batch_id, l.applied_at
from shards as s
cross join lateral (
    select n.batch_id, n.greatest_captured_at, n.applied_at
    from tidemark.batches as n
    where n.dimension_name = p_dimension_name and n.shard = s.shard
    order by n.greatest_captured_at desc, n.batch_id collate "C" desc
    limit 1
) as l
order by l.greatest_captured_at desc, l.batch_id collate "C" desc
limit 1;
$$;
