-- A hit is a batch whose changes are not each in exactly one place: a version, absorbed_changes, rejected_changes, or retracted_changes,
-- where all of a batch are that is retracted, and none of another.
-- places counts those found, distinct_lines how many different changes they are; both must equal change_count, but for
-- absorbed changes that were pruned, and changes of keys that were forgotten. A TRUNCATE is one change with a place for each key
-- that it was noted for.
-- A version does not say its shard, and need not: the name of a batch is used once a table.
-- Lines are counted in blocks of 1,024, a bit each: so each part of a history is counted by itself, by its node where it is distributed.
with aside as (
    select a.dimension_name, a.batch_id, a.change_line, false as is_retracted from tidemark.absorbed_changes as a
    union all
    select r.dimension_name, r.batch_id, r.change_line, false from tidemark.rejected_changes as r
    union all
    select r.dimension_name, r.batch_id, r.change_line, true from tidemark.retracted_changes as r
),
place as (
    select v.dimension_name, v.batch_id, v.block, v.versions as places, v.lines, 0 as retracted_changes from tidemark.version_lines as v
    union all
    select a.dimension_name, a.batch_id, a.change_line >> 10, count(*), bit_or(set_bit(b'0'::bit(1024), a.change_line & 1023, 1)),
        count(*) filter (where a.is_retracted)
    from aside as a
    group by a.dimension_name, a.batch_id, a.change_line >> 10
),
block as (
    select p.dimension_name, p.batch_id, sum(p.places) as places, bit_count(bit_or(p.lines)) as distinct_lines,
        sum(p.retracted_changes) as retracted_changes
    from place as p
    group by p.dimension_name, p.batch_id, p.block
),
counted as (
    select k.dimension_name, k.batch_id, sum(k.places)::bigint as places, sum(k.distinct_lines)::bigint as distinct_lines,
        sum(k.retracted_changes)::bigint as retracted_changes
    from block as k
    group by k.dimension_name, k.batch_id
)
select
    b.dimension_name, b.shard, b.batch_id, b.change_count,
    coalesce(c.places, 0) as places, coalesce(c.distinct_lines, 0) as distinct_lines, b.pruned_changes, b.forgotten_changes,
    coalesce(c.retracted_changes, 0) as retracted_changes
from tidemark.batches as b
left join counted as c on c.dimension_name = b.dimension_name and c.batch_id = b.batch_id
cross join lateral (
    select coalesce(b.truncated_keys, b.change_count) - coalesce(b.pruned_changes, 0) - coalesce(b.forgotten_changes, 0) as changes
) as e
where e.changes <> coalesce(c.places, 0)
    or e.changes <> coalesce(c.distinct_lines, 0)
    or c.retracted_changes <> case when b.retracted_at is null then 0 else c.places end
order by b.dimension_name, b.shard, b.batch_id;
