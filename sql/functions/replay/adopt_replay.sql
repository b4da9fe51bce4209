-- Makes the history of a dimension what its batches made of an empty one (tidemark.open_replay, replay_batch), and its ledger and
-- the changes kept aside likewise. Writes differences only: a version that is right stays untouched, one that is wrong is written
-- anew under the surrogate_key that its business key and valid_from have, one that should not be, or is there twice, is deleted,
-- and one that was missing gets a new surrogate_key. The caller holds the dimension (open_replay with p_is_locked).
-- Returns how many versions were right, corrected, added and removed.
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
#variable_conflict use_column
declare
    v_fragments json := tidemark._replay_fragments(p_dimension_name);
    v_right bigint;
    v_removed bigint;
    v_corrected bigint;
    v_added bigint;
begin
    execute tidemark._fill_template(
        'create temporary table {gone} on commit drop as '
        'select g.surrogate_key, {g_key}, g.valid_from, g.created_at, g.place '
        'from ('
        'select h.*, w.is_right, row_number() over (partition by {h_key}, h.valid_from order by w.is_right desc, h.surrogate_key) as place '
        'from {history} as h cross join lateral (select exists ('
        'select from {replayed} as r where {same_version} and row({r_content})::text = row({h_content})::text) as is_right) as w'
        ') as g where not g.is_right or g.place > 1',
        v_fragments
    );
    execute tidemark._fill_template(
        'delete from {history} as h using {gone} as g where h.surrogate_key = g.surrogate_key', v_fragments
    );
    get diagnostics v_removed = row_count;
    execute tidemark._fill_template('select count(*) from {history}', v_fragments) into v_right;

    execute tidemark._fill_template(
        'insert into {history} (surrogate_key, {content}, created_at, updated_at) overriding system value '
        'select g.surrogate_key, {r_content}, g.created_at, current_timestamp at time zone ''UTC'' '
        'from {replayed} as r join {gone} as g on {same_as_gone} and g.place = 1',
        v_fragments
    );
    get diagnostics v_corrected = row_count;
    execute tidemark._fill_template(
        'insert into {history} ({content}, created_at, updated_at) '
        'select {r_content}, current_timestamp at time zone ''UTC'', current_timestamp at time zone ''UTC'' from {replayed} as r '
        'where not exists (select from {history} as h where {same_version}) order by r.surrogate_key',
        v_fragments
    );
    get diagnostics v_added = row_count;

    perform tidemark._adopt_replayed_ledger(p_dimension_name);
    return query select v_right, v_corrected, v_added, v_removed - v_corrected;
end;
$$;
