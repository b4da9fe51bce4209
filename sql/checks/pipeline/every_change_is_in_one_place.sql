-- A hit is a batch whose changes are not each in exactly one place: a version, absorbed_changes, rejected_changes, or retracted_changes,
-- where all of a batch are that is retracted, and none of another.
-- places counts those found, distinct_lines how many different changes they are; both must equal change_count, but for
-- absorbed changes that were pruned, and changes of keys that were forgotten. A TRUNCATE is one change with a place for each key
-- that it was noted for.
-- A version does not say its shard, and need not: the name of a batch is used once a table.
with place as (
    select v.dimension_name, v.batch_id, v.change_line, false as is_retracted from tidemark.versions as v
    union all
    select a.dimension_name, a.batch_id, a.change_line, false from tidemark.absorbed_changes as a
    union all
    select r.dimension_name, r.batch_id, r.change_line, false from tidemark.rejected_changes as r
    union all
    select r.dimension_name, r.batch_id, r.change_line, true from tidemark.retracted_changes as r
),
counted as (
    select p.dimension_name, p.batch_id, count(*) as places, count(distinct p.change_line) as distinct_lines,
        count(*) filter (where p.is_retracted) as retracted_changes
    from place as p
    group by p.dimension_name, p.batch_id
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
