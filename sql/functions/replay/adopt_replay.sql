create or replace function tidemark.adopt_replay(
    p_dimension_name text
)
returns table (
    right_versions bigint,
    corrected_versions bigint,
    added_versions bigint,
    removed_versions bigint
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Makes the history of a dimension what its batches made of an empty one (tidemark.open_replay, replay_batch), and its ledger and
-- the changes kept aside likewise. Writes differences only: a version that is right stays untouched, one that is wrong is written
-- anew under the surrogate_key that its business key and valid_from have, one that should not be, or is there twice, is deleted,
-- and one that was missing gets a new surrogate_key. The caller holds the dimension (open_replay with p_is_locked).
-- What is retracted stays so. Where events are published, what differs is noted.
-- Returns how many versions were right, corrected, added and removed.
#variable_conflict use_column
declare
    v_parts jsonb := tidemark._replay_parts(p_dimension_name);
    v_right bigint;
    v_removed bigint;
    v_corrected bigint;
    v_added bigint;
begin
    perform tidemark._replay_retractions(p_dimension_name);
    perform tidemark._keep_points(p_dimension_name);
    perform tidemark._copy_live(v_parts);
    execute tidemark._laid_out(
        'create temporary table {gone} on commit drop as '
        'select g.surrogate_key, {g_key}, g.valid_from, g.created_at, g._place '
        'from ('
        'select h.*, w._is_right, '
        'row_number() over (partition by {h_key}, h.valid_from order by w._is_right desc, h.surrogate_key) as _place '
        'from {live} as h cross join lateral (select exists ('
        'select from {replayed} as r where {same_version} and row({r_content})::text = row({h_content})::text) as _is_right) as w'
        ') as g where not g._is_right or g._place > 1',
        v_parts
    );
    execute tidemark._laid_out(
        case
            when v_parts ->> 'live' = v_parts ->> 'history'
                then 'delete from {history} as h using {gone} as g where h.surrogate_key = g.surrogate_key and {same_key_as_gone}'
            else 'delete from {history} as h where h.surrogate_key in (select g.surrogate_key from {gone} as g)'
        end,
        v_parts
    );
    get diagnostics v_removed = row_count;
    execute tidemark._laid_out('select count(*) from {history}', v_parts) into v_right;

    execute tidemark._laid_out(
        'insert into {history} (surrogate_key, {content}, created_at, updated_at) overriding system value '
        'select g.surrogate_key, {r_content}, g.created_at, current_timestamp at time zone ''UTC'' '
        'from {replayed} as r join {gone} as g on {same_as_gone} and g._place = 1',
        v_parts
    );
    get diagnostics v_corrected = row_count;
    execute tidemark._laid_out(
        'insert into {history} ({content}, created_at, updated_at) '
        'select {r_content}, current_timestamp at time zone ''UTC'', current_timestamp at time zone ''UTC'' from {replayed} as r '
        'where not exists (select from {live} as h where {same_version}) order by r.surrogate_key',
        v_parts
    );
    get diagnostics v_added = row_count;

    execute tidemark._laid_out(
        'insert into tidemark.former_keys (dimension_name, business_key) '
        'select distinct {dimension}, json_build_object({printed_key})::text from {gone} as c '
        'where not exists (select from {versions} as h where {same_key: and}) on conflict do nothing',
        tidemark._column_lists(p_dimension_name) || v_parts
    );

    perform tidemark._adopt_replayed_ledger(p_dimension_name);
    perform tidemark._note_points(p_dimension_name);
    return query select v_right, v_corrected, v_added, v_removed - v_corrected;
end;
$$;

create or replace function tidemark._replay_parts(
    p_dimension_name text
)
returns jsonb
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- The parts of tidemark.adopt_replay that differ from dimension to dimension, by the name they have in its templates:
-- h is a version of the live history, r one that was replayed, g one that was deleted because it was wrong. Names of Tidemark's own begin
-- with a mark (own) that no column of the history begins with: _, or more of them.
with identity as (
    select c.history_column, c.ordinal
    from tidemark.dimension_columns as c
    where c.dimension_name = p_dimension_name and c.column_role = 'business key'
    union all
    select 'valid_from', 2147483647
),
content as (
    select c.name, c.place
    from unnest(tidemark._content_columns(p_dimension_name)) with ordinality as c (name, place)
)
select jsonb_build_object(
    'own', (
        select '_' || coalesce(max(substring(c.history_column from '^_+')), '')
        from tidemark.dimension_columns as c
        where c.dimension_name = p_dimension_name
    ),
    'history', (select d.history_relation::text from tidemark.dimensions as d where d.dimension_name = p_dimension_name),
    -- What can be joined with it: a history that is distributed is copied for that.
    'live', (
        select case
            when d.distributed_by is null then d.history_relation::text
            else format('pg_temp.%I', tidemark._replay_name(p_dimension_name) || '_live')
        end
        from tidemark.dimensions as d
        where d.dimension_name = p_dimension_name
    ),
    'replayed', format('pg_temp.%I', tidemark._replay_name(p_dimension_name)),
    'gone', format('pg_temp.%I', tidemark._replay_name(p_dimension_name) || '_gone'),
    'content', (select string_agg(c.name, ', ' order by c.place) from content as c),
    'h_content', (select string_agg('h.' || c.name, ', ' order by c.place) from content as c),
    'r_content', (select string_agg('r.' || c.name, ', ' order by c.place) from content as c),
    'h_key', (
        select string_agg(format('h.%I', i.history_column), ', ' order by i.ordinal)
        from identity as i
        where i.history_column <> 'valid_from'
    ),
    'g_key', (
        select string_agg(format('g.%I', i.history_column), ', ' order by i.ordinal)
        from identity as i
        where i.history_column <> 'valid_from'
    ),
    'same_version', (select string_agg(format('h.%1$I = r.%1$I', i.history_column), ' and ' order by i.ordinal) from identity as i),
    'same_key_as_gone', (
        select string_agg(format('h.%1$I = g.%1$I', i.history_column), ' and ' order by i.ordinal)
        from identity as i
        where i.history_column <> 'valid_from'
    ),
    'same_as_gone', (select string_agg(format('g.%1$I = r.%1$I', i.history_column), ' and ' order by i.ordinal) from identity as i)
);
$$;

create or replace function tidemark._copy_live(
    p_parts jsonb
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Copies a history that is distributed, as it is now, into a temporary table that can be joined with one that was replayed ({live}).
begin
    if p_parts ->> 'live' <> p_parts ->> 'history' then
        if to_regclass(p_parts ->> 'live') is not null then
            execute format('drop table %s', p_parts ->> 'live');
        end if;
        execute format('create temporary table %s on commit drop as select h.* from %s as h', p_parts ->> 'live', p_parts ->> 'history');
    end if;
end;
$$;

create or replace function tidemark._adopt_replayed_ledger(
    p_dimension_name text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Hands what a replay kept beside its history over to the dimension: absorbed, rejected and retracted changes, first values by the
-- surrogate keys that the versions have now, batches that the ledger did not know, and the counts of those it knew.
-- When things became known stays as it was (tidemark.changes_known_later); what was not is known since now: changes that were rejected and
-- can be applied by now, and batches that the ledger did not know, all at one moment.
-- Then the scratch dimension is gone, but for its temporary table, which goes with the transaction.
declare
    v_scratch text := tidemark._replay_name(p_dimension_name);
    v_known_at timestamptz := clock_timestamp();
begin
    update tidemark.batches as s set applied_at = v_known_at where s.dimension_name = v_scratch;
    with kept as (
        select r.dimension_name, r.shard, r.batch_id, r.change_line from tidemark.rejected_changes as r
        union all
        select r.dimension_name, r.shard, r.batch_id, r.change_line from tidemark.retracted_changes as r where r.rejected is not null
    )
    insert into tidemark.changes_known_later (dimension_name, shard, batch_id, change_line, known_at)
    select p_dimension_name, r.shard, r.batch_id, r.change_line, v_known_at
    from kept as r
    where r.dimension_name = p_dimension_name and not exists (
        select
        from kept as s
        where s.dimension_name = v_scratch and s.shard = r.shard and s.batch_id = r.batch_id and s.change_line = r.change_line
    )
    on conflict do nothing;
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
        is_logged = excluded.is_logged,
        truncated_at = excluded.truncated_at,
        truncated_keys = excluded.truncated_keys,
        least_captured_at = excluded.least_captured_at,
        greatest_captured_at = excluded.greatest_captured_at,
        pruned_changes = null,
        forgotten_changes = excluded.forgotten_changes;
    insert into tidemark.forgotten_contents
    select (jsonb_populate_record(s, jsonb_build_object('dimension_name', p_dimension_name))).*
    from tidemark.forgotten_contents as s
    where s.dimension_name = v_scratch
    on conflict do nothing;
    delete from tidemark.shell_keys as s where s.dimension_name = p_dimension_name;
    update tidemark.shell_keys as s set dimension_name = p_dimension_name where s.dimension_name = v_scratch;
    update tidemark.batches as b
    set metadata = tidemark._with_member(b.metadata, 'table', to_json(p_dimension_name))
    where b.dimension_name = p_dimension_name and b.metadata ->> 'table' = v_scratch;

    -- What was pruned is there again.
    update tidemark.dimensions as d set pruned_before = null, pruned_known_at = null where d.dimension_name = p_dimension_name;
    -- Surrogate keys that changes had are those of the live history, not those of the replayed one.
    update tidemark.absorbed_changes as s
    set surrogate_key = a.surrogate_key
    from tidemark.absorbed_changes as o
    left join tidemark.absorbed_changes as a
        on a.dimension_name = p_dimension_name and a.shard = o.shard and a.batch_id = o.batch_id and a.change_line = o.change_line
    where o.dimension_name = v_scratch and s.dimension_name = v_scratch
        and s.shard = o.shard and s.batch_id = o.batch_id and s.change_line = o.change_line
        and s.surrogate_key is distinct from a.surrogate_key;
    delete from tidemark.absorbed_changes as a where a.dimension_name = p_dimension_name;
    update tidemark.absorbed_changes as a set dimension_name = p_dimension_name where a.dimension_name = v_scratch;
    update tidemark.rejected_changes as s
    set dismissed_at = r.dismissed_at, dismissed_by = r.dismissed_by, dismiss_reason = r.dismiss_reason
    from tidemark.rejected_changes as r
    where s.dimension_name = v_scratch and r.dimension_name = p_dimension_name
        and r.shard = s.shard and r.batch_id = s.batch_id and r.change_line = s.change_line;
    delete from tidemark.rejected_changes as r where r.dimension_name = p_dimension_name;
    update tidemark.rejected_changes as r set dimension_name = p_dimension_name where r.dimension_name = v_scratch;
    update tidemark.retracted_changes as s
    set surrogate_key = r.surrogate_key, rejected = case when s.rejected is not null then coalesce(r.rejected, s.rejected) end
    from tidemark.retracted_changes as o
    left join tidemark.retracted_changes as r
        on r.dimension_name = p_dimension_name and r.shard = o.shard and r.batch_id = o.batch_id and r.change_line = o.change_line
    where o.dimension_name = v_scratch and s.dimension_name = v_scratch
        and s.shard = o.shard and s.batch_id = o.batch_id and s.change_line = o.change_line;
    delete from tidemark.retracted_changes as r where r.dimension_name = p_dimension_name;
    update tidemark.retracted_changes as r set dimension_name = p_dimension_name where r.dimension_name = v_scratch;

    delete from tidemark.first_values as f where f.dimension_name = p_dimension_name;
    perform tidemark._copy_live(tidemark._replay_parts(p_dimension_name));
    execute tidemark._laid_out(
        'update tidemark.first_values as f set dimension_name = $1, surrogate_key = h.surrogate_key '
        'from {replayed} as r join {live} as h on {same_version} '
        'where f.dimension_name = $2 and f.surrogate_key = r.surrogate_key',
        tidemark._replay_parts(p_dimension_name)
    )
    using p_dimension_name, v_scratch;

    update tidemark.dimension_columns as c
    set may_be_missing = s.may_be_missing
    from tidemark.dimension_columns as s
    where c.dimension_name = p_dimension_name and s.dimension_name = v_scratch and s.source_column = c.source_column;
    perform tidemark._drop_compiled(v_scratch);
    delete from tidemark.forgotten_contents as c where c.dimension_name = v_scratch;
    delete from tidemark.batches as b where b.dimension_name = v_scratch;
    delete from tidemark.former_column_names as f where f.dimension_name = v_scratch;
    delete from tidemark.former_keys as f where f.dimension_name = v_scratch;
    delete from tidemark.dimension_columns as c where c.dimension_name = v_scratch;
    delete from tidemark.dimensions as d where d.dimension_name = v_scratch;
end;
$$;
