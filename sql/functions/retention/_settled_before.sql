-- The moment before which a history is settled: nothing that its chains will still bring was captured before it, and no rejected change
-- from before it waits. Each chain of the present layout (the whole table, or every shard) counts up to its newest batch, or up to its
-- first gap where it has one. Chains of layouts that are past bring nothing more; the chain of repairs of a table that is cut brings
-- what was captured later than all that is here. Null where there is no chain, where a shard has none yet, where a very beginning is
-- missing, and for a dimension in the order of effective times, which is never settled. Reads the whole ledger of the dimension.
create or replace function tidemark._settled_before(
    p_dimension_name text
)
returns timestamptz
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
with present as (
    select coalesce(nullif(tidemark._shard_layout(b.shard), ''), b.metadata -> 'shard_layout' ->> 'name', '') as layout
    from tidemark.batches as b
    where b.dimension_name = p_dimension_name and b.sequence is not null
    order by b.extracted_at desc
    limit 1
),
linked as (
    select b.shard, b.sequence, b.extracted_at,
        b.previous_checksum is distinct from lag(b.checksum) over (partition by b.shard order by b.sequence) as is_broken
    from present as p
    join tidemark.batches as b on tidemark._shard_layout(b.shard) = p.layout
    where b.dimension_name = p_dimension_name and b.sequence is not null
),
walked as (
    select l.shard, l.extracted_at, bool_or(l.is_broken) over (partition by l.shard order by l.sequence) as is_behind_a_gap
    from linked as l
),
chain as (
    select w.shard, max(w.extracted_at) filter (where not w.is_behind_a_gap) as ends from walked as w group by w.shard
),
waiting as (
    select min(b.extracted_at) as begins
    from tidemark.batches as b
    where b.dimension_name = p_dimension_name and exists (
        select
        from tidemark.rejected_changes as r
        where r.dimension_name = b.dimension_name and r.shard = b.shard and r.batch_id = b.batch_id
    )
)
select case
    when bool_and(c.ends is not null) and count(*) = coalesce(substring(max(p.layout) from '^of-([0-9]+)')::integer, 1)
        then least(min(c.ends), (select w.begins from waiting as w))
end
from chain as c
cross join present as p
join tidemark.dimensions as d on d.dimension_name = p_dimension_name and d.change_order = 'capture';
$$;
