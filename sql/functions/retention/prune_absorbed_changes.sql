-- Forgets absorbed changes of a dimension that were captured before p_before and can never matter again, at most p_limit of them.
-- Proof. Before B (below) lies what is settled: tidemark._assert_not_pruned refuses every batch captured before B from now on, and no
-- rejected change from before B waits. So every change yet to come follows, in capture order, all that was captured before B, and a
-- slice of history (tidemark._slice_template) begins with the key's last version captured before B, or later. Hence a change before
-- such a version is in no slice (its deletes stay, as evidence of gaps); one that found nothing to delete leaves a fold as it was; and
-- of two that changed nothing, the earlier says nothing that the later does not, if the later's batch had all columns of the earlier's.
-- Not for dimensions in the order of effective times, where any change may come to matter. Takes the dimension for itself.
-- Returns how many were forgotten, and B: the least of p_before, the end of every unbroken chain, and the first batch with a change that is
-- rejected. Errors: TM002 unknown dimension, TM006 isolation level.
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

    execute tidemark._fill_template(
        $statement$
with doomed as (
    select a.shard, a.batch_id, a.change_line
    from tidemark.absorbed_changes as a
    join tidemark.batches as b on b.dimension_name = a.dimension_name and b.shard = a.shard and b.batch_id = a.batch_id
    where a.dimension_name = {dimension} and a.captured_at < $1
        and (
            a.reason = 'nothing to delete'
            or (a.reason = 'unchanged' and exists (
                select
                from tidemark.absorbed_changes as n
                join tidemark.batches as m on m.dimension_name = n.dimension_name and m.shard = n.shard and m.batch_id = n.batch_id
                where n.dimension_name = a.dimension_name and n.business_key = a.business_key and n.reason = 'unchanged'
                    and n.captured_at > a.captured_at and n.captured_at < $1 and (m.columns is null or m.columns @> b.columns)
            ))
            or (a.reason = 'unchanged' and exists (
                select
                from (select {stored_values} from rows from (json_to_record(a.change) as ({read_as})) as c ({values})) as c
                cross join lateral (
                    select from {history} as h where {key_matches} and h.captured_at > a.captured_at and h.captured_at < $1
                ) as v
            ))
        )
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
        tidemark._statement_fragments(p_dimension_name)
    )
    into v_pruned
    using v_before, p_limit;

    if v_pruned > 0 then
        update tidemark.dimensions as d
        set pruned_before = greatest(d.pruned_before, v_before)
        where d.dimension_name = p_dimension_name;
    end if;
    return query select v_pruned, v_before;
end;
$$;

revoke execute on function tidemark.prune_absorbed_changes (text, timestamptz, integer) from public;
