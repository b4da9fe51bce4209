create or replace function tidemark.prune_absorbed_changes(
    p_dimension_name text,
    p_before timestamptz,
    p_limit integer
)
returns table (
    pruned_changes bigint,
    pruned_before timestamptz
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Forgets absorbed changes of a dimension that were captured before p_before and can never matter again, at most p_limit of them.
-- Proof. Before B (below) lies what is settled: tidemark._assert_not_pruned refuses every change captured before B from now on, no
-- rejected change from before B waits, none that is retracted may come back, and none is retracted any more (tidemark.retract_batch). So
-- every change yet to come, or to go, follows, in capture order, all that was captured before B, and a slice of history
-- (tidemark._converge_body) begins with the key's last version captured before B, or later. Hence a change before such a version
-- is in no slice (its deletes stay, as evidence of gaps); one that found nothing to delete, or was superseded,
-- leaves a fold as it was (those of the log that found nothing may be of a TRUNCATE, or have what a marked row says: they stay); and
-- of two that changed nothing, the earlier says nothing that the later does not, if the later's batch had all columns of the earlier's.
-- Not for dimensions in the order of effective times, where any change may come to matter. Takes the dimension for itself.
-- What was known before all that is of that time was known can no longer be told (pruned_known_at, tidemark._all_known_at).
-- Returns how many were forgotten, and B: the least of p_before, the end of every unbroken chain, and the first change that is
-- rejected or retracted. Errors: TM002 unknown dimension, TM006 isolation level.
#variable_conflict use_column
declare
    v_before timestamptz;
    v_pruned bigint;
begin
    perform tidemark._assert_read_committed('prune_absorbed_changes');
    perform tidemark._assert_dimension_known(p_dimension_name);
    perform tidemark._lock_dimension(p_dimension_name, '');
    v_before := least(p_before, tidemark._settled_before(p_dimension_name));
    if v_before is null or not isfinite(v_before) then
        return query select 0::bigint, null::timestamptz;
        return;
    end if;

    execute tidemark._laid_out(
        $statement$
with doomed as (
    select a.shard, a.batch_id, a.change_line
    from tidemark.absorbed_changes as a
    join tidemark.batches as b on b.dimension_name = a.dimension_name and b.shard = a.shard and b.batch_id = a.batch_id
    where a.dimension_name = {dimension} and a.captured_at < $1
        and (
            a.reason = 'superseded'
            or (a.reason = 'nothing to delete' and not b.is_logged)
            or (a.reason = 'unchanged' and exists (
                select
                from tidemark.absorbed_changes as n
                join tidemark.batches as m on m.dimension_name = n.dimension_name and m.shard = n.shard and m.batch_id = n.batch_id
                where n.dimension_name = a.dimension_name and n.business_key = a.business_key and n.reason = 'unchanged'
                    and n.captured_at > a.captured_at and n.captured_at < $1 and (m.columns is null or m.columns @> b.columns)
            ))
            or (a.reason = 'unchanged' and exists (
                select
                from (select {stored_values} from rows from (json_to_record(a.change) as ({read_as})) as c ({columns})) as c
                cross join lateral (
                    select from {versions} as h where {same_key: and} and h.captured_at > a.captured_at and h.captured_at < $1
                ) as v
            ))
        )
    -- What superseded others goes after them, or they would count again.
    order by a.business_key, a.captured_at, a.reason <> 'superseded'
    limit $2
),
gone as (
    delete from tidemark.absorbed_changes as a
    using doomed as d
    where a.dimension_name = {dimension} and a.shard = d.shard and a.batch_id = d.batch_id and a.change_line = d.change_line
    returning a.shard, a.batch_id
),
noted as (
    update tidemark.batches as b
    set pruned_changes = coalesce(b.pruned_changes, 0) + g.changes
    from (select g.shard, g.batch_id, count(*)::integer as changes from gone as g group by g.shard, g.batch_id) as g
    where b.dimension_name = {dimension} and b.shard = g.shard and b.batch_id = g.batch_id
)
select count(*) from gone
        $statement$,
        tidemark._column_lists(p_dimension_name)
    )
    into v_pruned
    using v_before, p_limit;

    if v_pruned > 0 then
        update tidemark.dimensions as d
        set pruned_before = greatest(d.pruned_before, v_before),
            pruned_known_at = greatest(d.pruned_known_at, tidemark._all_known_at(p_dimension_name, v_before))
        where d.dimension_name = p_dimension_name;
    end if;
    return query select v_pruned, v_before;
end;
$$;

revoke execute on function tidemark.prune_absorbed_changes (text, timestamptz, integer) from public;

create or replace function tidemark._all_known_at(
    p_dimension_name text,
    p_captured_before timestamptz
)
returns timestamptz
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- The moment from which on history knows the same changes captured before another, once that is settled (tidemark._settled_before): all
-- of them, but for batches that are retracted. So whatever was pruned of them, from then on it is as it is now (tidemark._known_body).
-- Null where there are none. Reads the whole ledger of the dimension.
select greatest(
    max(b.applied_at),
    (
        select max(n.known_at)
        from tidemark.changes_known_later as n
        join tidemark.batches as k on k.dimension_name = n.dimension_name and k.shard = n.shard and k.batch_id = n.batch_id
        where n.dimension_name = p_dimension_name and k.least_captured_at < p_captured_before
    ),
    (
        select max(coalesce(t.restored_at, t.retracted_at))
        from tidemark.retractions as t
        join tidemark.batches as k on k.dimension_name = t.dimension_name and k.shard = t.shard and k.batch_id = t.batch_id
        where t.dimension_name = p_dimension_name and k.least_captured_at < p_captured_before
    )
)
from tidemark.batches as b
where b.dimension_name = p_dimension_name and b.least_captured_at < p_captured_before;
$$;

create or replace function tidemark._settled_before(
    p_dimension_name text
)
returns timestamptz
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- The moment before which a history is settled: nothing that its chains will still bring was captured before it, and no rejected or
-- retracted change is from before it. Each chain of the present layout (the whole table, or every shard) counts up to its newest batch
-- (when that was read, or its latest change where that is earlier), or up to its first gap where it has one. Chains of layouts that
-- are past bring nothing more; the chain of repairs of a table that is cut brings what was captured later than all that is here. Null
-- where there is no chain, where a shard has none yet, where a very beginning is missing, and for a dimension in the order of effective
-- times, which is never settled. Reads the whole ledger of the dimension.
with present as (
    select coalesce(nullif(tidemark._shard_layout(b.shard), ''), b.metadata -> 'shard_layout' ->> 'name', '') as layout
    from tidemark.batches as b
    where b.dimension_name = p_dimension_name and b.sequence is not null
    order by b.extracted_at desc
    limit 1
),
linked as (
    select b.shard, b.sequence, least(b.extracted_at, b.greatest_captured_at) as read_until,
        b.previous_checksum is distinct from lag(b.checksum) over (partition by b.shard order by b.sequence) as is_broken
    from present as p
    join tidemark.batches as b on tidemark._shard_layout(b.shard) = p.layout
    where b.dimension_name = p_dimension_name and b.sequence is not null
),
walked as (
    select l.shard, l.read_until, bool_or(l.is_broken) over (partition by l.shard order by l.sequence) as is_behind_a_gap
    from linked as l
),
chain as (
    select w.shard, max(w.read_until) filter (where not w.is_behind_a_gap) as ends from walked as w group by w.shard
),
waiting as (
    select min(tidemark._capture_time(r.change, b.extracted_at)) as begins
    from tidemark.rejected_changes as r
    join tidemark.batches as b on b.dimension_name = r.dimension_name and b.shard = r.shard and b.batch_id = r.batch_id
    where r.dimension_name = p_dimension_name
),
retracted as (
    select min(r.captured_at) as begins from tidemark.retracted_changes as r where r.dimension_name = p_dimension_name
)
select case
    when bool_and(c.ends is not null) and count(*) = coalesce(substring(max(p.layout) from '^of-([0-9]+)')::integer, 1)
        then least(min(c.ends), (select w.begins from waiting as w), (select r.begins from retracted as r))
end
from chain as c
cross join present as p
join tidemark.dimensions as d on d.dimension_name = p_dimension_name and d.change_order = 'capture';
$$;
