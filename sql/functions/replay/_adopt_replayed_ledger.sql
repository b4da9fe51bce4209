-- Hands what a replay kept beside its history over to the dimension: absorbed and rejected changes, first values by the
-- surrogate keys that the versions have now, batches that the ledger did not know, and the counts of those it knew.
-- Then the scratch dimension is gone, but for its temporary table, which goes with the transaction.
create or replace function tidemark._adopt_replayed_ledger(
    p_dimension_name text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_scratch text := tidemark._replay_name(p_dimension_name);
begin
    insert into tidemark.batches
    select (jsonb_populate_record(s, jsonb_build_object('dimension_name', p_dimension_name))).*
    from tidemark.batches as s
    where s.dimension_name = v_scratch
    on conflict (dimension_name, shard, batch_id) do update
    set inserted_versions = excluded.inserted_versions,
        closed_versions = excluded.closed_versions,
        absorbed_changes = excluded.absorbed_changes,
        corrected_versions = excluded.corrected_versions,
        late_changes = excluded.late_changes,
        rejected_changes = excluded.rejected_changes,
        columns = excluded.columns,
        pruned_changes = null;
    update tidemark.batches as b
    set metadata = tidemark._with_member(b.metadata, 'table', to_json(p_dimension_name))
    where b.dimension_name = p_dimension_name and b.metadata ->> 'table' = v_scratch;

    -- What was pruned is there again.
    update tidemark.dimensions as d set pruned_before = null where d.dimension_name = p_dimension_name;
    delete from tidemark.absorbed_changes as a where a.dimension_name = p_dimension_name;
    update tidemark.absorbed_changes as a set dimension_name = p_dimension_name where a.dimension_name = v_scratch;
    update tidemark.rejected_changes as s
    set dismissed_at = r.dismissed_at, dismissed_by = r.dismissed_by, dismiss_reason = r.dismiss_reason
    from tidemark.rejected_changes as r
    where s.dimension_name = v_scratch and r.dimension_name = p_dimension_name
        and r.shard = s.shard and r.batch_id = s.batch_id and r.change_line = s.change_line;
    delete from tidemark.rejected_changes as r where r.dimension_name = p_dimension_name;
    update tidemark.rejected_changes as r set dimension_name = p_dimension_name where r.dimension_name = v_scratch;

    delete from tidemark.first_values as f where f.dimension_name = p_dimension_name;
    execute tidemark._fill_template(
        'update tidemark.first_values as f set dimension_name = $1, surrogate_key = h.surrogate_key '
        'from {replayed} as r join {history} as h on {same_version} '
        'where f.dimension_name = $2 and f.surrogate_key = r.surrogate_key',
        tidemark._replay_fragments(p_dimension_name)
    )
    using p_dimension_name, v_scratch;

    update tidemark.dimension_columns as c
    set may_be_missing = s.may_be_missing
    from tidemark.dimension_columns as s
    where c.dimension_name = p_dimension_name and s.dimension_name = v_scratch and s.source_column = c.source_column;
    delete from tidemark.batches as b where b.dimension_name = v_scratch;
    delete from tidemark.former_column_names as f where f.dimension_name = v_scratch;
    delete from tidemark.dimension_columns as c where c.dimension_name = v_scratch;
    delete from tidemark.dimensions as d where d.dimension_name = v_scratch;
end;
$$;
