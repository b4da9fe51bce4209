create or replace function tidemark._fold_distributed(
    p_batch tidemark.batches,
    p_changes json,
    p_lines integer [],
    p_missing text [],
    p_in_order_since timestamptz,
    p_is_ordered boolean
)
returns table (
    inserted_versions bigint,
    closed_versions bigint,
    absorbed_changes bigint,
    corrected_versions bigint,
    late_changes bigint,
    change_count bigint,
    first_bad_line integer,
    least_captured_at timestamptz,
    greatest_captured_at timestamptz
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Makes history of changes of one batch where the history is distributed: parts them by shard, and has each part folded by the node that
-- holds the shard (tidemark._serve_node), as tidemark._fold_changes does where it is not. Ledger and kept changes stay here: what of them a
-- node needs is sent along, and what is to be kept comes back. p_is_ordered: try the apply function first.
-- Returns what the compiled functions return, for all parts together. All is one transaction: Citus prepares it on the nodes, then commits.
-- Errors: TM004 a change has no key; TM034 Citus did not call the node that holds a shard; and what the compiled functions raise.
#variable_conflict use_column
declare
    v_part record;
    v_request jsonb;
    v_kept json;
    v_reply json;
    v_events json [] := '{}'::json [];
begin
    p_batch.metadata := null;
    p_batch.applied_at := transaction_timestamp();
    v_request := jsonb_build_object(
        'batch', to_jsonb(p_batch), 'missing', p_missing, 'in_order_since', p_in_order_since,
        'digest', (select d.compiled_for_nodes from tidemark.dimensions as d where d.dimension_name = p_batch.dimension_name)
    );
    -- One session a node: what it has written it sees, whichever shard is asked for next.
    perform set_config('citus.max_adaptive_executor_pool_size', '1', true);
    select 0, 0, 0, 0, 0, 0
    into inserted_versions, closed_versions, absorbed_changes, corrected_versions, late_changes, change_count;
    for v_part in
        select r.* from tidemark._parts_of_changes(p_batch, p_changes, p_lines) as r order by r.shard_id
    loop
        v_request := v_request || v_part.request;
        v_kept := null;
        v_reply := null;
        if p_is_ordered then
            if cardinality(p_missing) > 0 then
                v_kept := tidemark._kept_for(p_batch.dimension_name, tidemark._ask_node(
                    p_batch.dimension_name, 'slice', v_request || '{"is_last": true}', v_part.changes, null
                ));
            end if;
            v_reply := tidemark._ask_node(p_batch.dimension_name, 'apply', v_request, v_part.changes, v_kept);
        end if;
        if v_reply is null or json_typeof(v_reply -> 'result') = 'null' then
            perform tidemark._recall_truncations(p_batch, v_part.changes);
            v_kept := tidemark._kept_for(p_batch.dimension_name, tidemark._ask_node(
                p_batch.dimension_name, 'slice', v_request || '{"is_last": false}', v_part.changes, null
            ));
            v_reply := tidemark._ask_node(p_batch.dimension_name, 'converge', v_request, v_part.changes, v_kept);
        end if;
        perform tidemark._store_kept(v_kept, v_reply -> 'kept');
        if json_typeof(v_reply #> '{kept,events}') = 'array' then
            v_events := v_events || (v_reply #> '{kept,events}');
        end if;
        select t.inserted_versions + r.inserted_versions, t.closed_versions + r.closed_versions,
            t.absorbed_changes + r.absorbed_changes, t.corrected_versions + r.corrected_versions, t.late_changes + r.late_changes,
            t.change_count + r.change_count, least(t.first_bad_line, r.first_bad_line),
            least(t.least_captured_at, r.least_captured_at), greatest(t.greatest_captured_at, r.greatest_captured_at)
        into inserted_versions, closed_versions, absorbed_changes, corrected_versions, late_changes, change_count,
            first_bad_line, least_captured_at, greatest_captured_at
        from json_to_record(v_reply -> 'result') as r (
            inserted_versions bigint, closed_versions bigint, absorbed_changes bigint, corrected_versions bigint, late_changes bigint,
            change_count bigint, first_bad_line integer, least_captured_at timestamptz, greatest_captured_at timestamptz
        )
        cross join (
            select _fold_distributed.inserted_versions, _fold_distributed.closed_versions, _fold_distributed.absorbed_changes,
                _fold_distributed.corrected_versions, _fold_distributed.late_changes, _fold_distributed.change_count,
                _fold_distributed.first_bad_line, _fold_distributed.least_captured_at, _fold_distributed.greatest_captured_at
        ) as t;
    end loop;
    perform tidemark._store_events(p_batch, v_events);
    return next;
end;
$$;

create or replace function tidemark._parts_of_changes(
    p_batch tidemark.batches,
    p_changes json,
    p_lines integer []
)
returns table (
    shard_id bigint,
    request jsonb,
    changes json
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- The changes of a batch by the shard that their keys belong to, with what tidemark._ask_node must know of it: its table and its node, the
-- lines of the changes, and a key by which Citus finds the node. The shards are held as a writer holds them, so that none is moved or split
-- before the transaction ends; one that moves now is waited for.
-- Errors: TM004 a change has no key, or one that is null where the history is distributed by it.
#variable_conflict use_column
declare
    v_lists jsonb := tidemark._column_lists(p_batch.dimension_name);
    v_history regclass := (select d.history_relation from tidemark.dimensions as d where d.dimension_name = p_batch.dimension_name);
    v_column text := tidemark._distributed_by(p_batch.dimension_name);
    v_type text := (tidemark._distribution_of(v_history)).column_type;
    v_parts json;
    v_shards bigint [];
    v_bad_line integer;
begin
    loop
        execute tidemark._laid_out(
            $query$
            with change as materialized (
                select {stored_keys}, c._change, coalesce($3[c._place], c._place::integer) as _line
                from rows from (json_to_recordset($2) as ({read_keys_as}), json_array_elements($2)) with ordinality as c (
                    {keys}, _change, _place
                )
            ),
            part as (
                select pg_catalog.get_shard_id_for_distribution_column($1, c.{distributed_by}) as shard_id, c.*
                from change as c
                where c.{distributed_by} is not null
            )
            select json_agg(row_to_json(p.*)), array_agg(p.shard_id),
                (select min(c._line) from change as c where c.{distributed_by} is null)
            from (
                select p.shard_id, min(p.{distributed_by}::text collate "C") as key_text,
                    json_agg(p._change order by p._line) as changes, json_agg(p._line order by p._line) as lines
                from part as p
                group by p.shard_id
            ) as p
            $query$,
            v_lists || jsonb_build_object('distributed_by', quote_ident(v_column))
        )
        into v_parts, v_shards, v_bad_line
        using v_history, p_changes, p_lines;
        if v_bad_line is not null then
            raise exception using
                errcode = 'TM004',
                message = 'a change cannot be applied',
                detail = format('table=%s batch=%s line=%s', p_batch.dimension_name, p_batch.batch_id, v_bad_line);
        end if;
        exit when tidemark._hold_shards(v_history, v_shards);
    end loop;

    return query execute $query$
        select p.shard_id, jsonb_build_object(
            'shard', tidemark._shard_table(s.logicalrelid::regclass, p.shard_id), 'id', p.shard_id, 'node', l.groupid,
            'key', p.key_text, 'key_type', $3, 'lines', p.lines
        ), p.changes
        from json_to_recordset($1) as p (shard_id bigint, key_text text, changes json, lines json)
        join pg_catalog.pg_dist_shard as s on s.shardid = p.shard_id
        join pg_catalog.pg_dist_placement as l on l.shardid = p.shard_id
        where s.logicalrelid = $2
    $query$
    using v_parts, v_history, v_type;
end;
$$;

create or replace function tidemark._shard_table(
    p_history_relation regclass,
    p_shard_id bigint
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The table of a shard, as SQL names it on the node that holds it.
select case n.nspname when 'public' then 'public.' else '' end || s.name
from pg_class as c
join pg_namespace as n on n.oid = c.relnamespace
cross join lateral tidemark._answer_of_citus('shard_name($1::oid::regclass, $2)', p_history_relation::oid, p_shard_id) as s (name)
where c.oid = p_history_relation;
$$;

create or replace function tidemark._answer_of_citus(
    p_call text,
    p_relation oid,
    p_shard_id bigint
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- What a function of Citus says, which a plain PostgreSQL does not have.
declare
    v_answer text;
begin
    execute 'select pg_catalog.' || p_call into v_answer using p_relation, p_shard_id;
    return v_answer;
end;
$$;

create or replace function tidemark._hold_shards(
    p_history_relation regclass,
    p_shards bigint []
)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Keeps shards from being moved or split until the transaction ends, as a write does by itself that Citus plans; waits for a move that is
-- about to end. False where one of them is there no more: it was split meanwhile.
declare
    v_is_there boolean;
begin
    if p_shards is null then
        return true;
    end if;
    -- 5 is ShareLock; a move takes an exclusive one before it switches.
    execute 'select pg_catalog.lock_shard_metadata(5, $1)' using p_shards;
    execute 'select count(*) = $2 from pg_catalog.pg_dist_shard as s where s.shardid = any ($1) and s.logicalrelid = $3'
    into v_is_there using p_shards, cardinality(p_shards), p_history_relation;
    return v_is_there;
end;
$$;

create or replace function tidemark._ask_node(
    p_dimension_name text,
    p_call text,
    p_request jsonb,
    p_changes json,
    p_kept json
)
returns json
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Has the node that holds a shard do one thing with a part of a batch (tidemark._serve_node), and gives its answer. Where it lacks the
-- functions for the shard they are sent along with a second request.
declare
    v_reply json;
begin
    p_request := p_request || jsonb_build_object('call', p_call, 'function', tidemark._fit_name(
        tidemark._function_name(p_call, p_dimension_name), '_' || (p_request ->> 'id')
    ));
    loop
        -- Constants, and a function in the place of a table: in any other form Citus would call it here.
        execute format(
            'select r.reply from tidemark.%I(%L::%s, %L::jsonb, %L::json, %L::json) as r (reply)',
            tidemark._function_name('on_node', p_dimension_name),
            p_request ->> 'key', p_request ->> 'key_type', p_request, p_changes, p_kept
        )
        into v_reply;
        exit when v_reply -> 'lacks' is null;
        p_request := p_request || jsonb_build_object('definitions', tidemark._node_definitions(
            p_dimension_name, p_request ->> 'shard', (p_request ->> 'id')::bigint
        ));
    end loop;
    return v_reply;
end;
$$;

create or replace function tidemark._kept_for(
    p_dimension_name text,
    p_slice json
)
returns json
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- What a node needs of what is kept here, for the slices that it has said it will fold (tidemark._slice_body), as rows by table: absorbed
-- changes and first values, as they are; of the ledger what a fold looks at.
with key as materialized (
    select k.item ->> 0 as business_key, (k.item ->> 1)::timestamptz as anchor_captured_at
    from json_array_elements(p_slice #> '{result,keys}') as k (item)
),
version as materialized (
    select v.item ->> 0 as batch_id, (v.item ->> 1)::bigint as surrogate_key
    from json_array_elements(
        case json_typeof(p_slice #> '{result,versions}') when 'array' then p_slice #> '{result,versions}' end
    ) as v (item)
),
absorbed as materialized (
    select a.*
    from key as k
    join tidemark.dimensions as d on d.dimension_name = p_dimension_name
    join tidemark.absorbed_changes as a on a.dimension_name = d.dimension_name and a.business_key = k.business_key
        and (d.change_order <> 'capture' or k.anchor_captured_at is null or a.captured_at >= k.anchor_captured_at)
)
select json_build_object(
    'absorbed_changes', (select json_agg(row_to_json(a.*)) from absorbed as a),
    'first_values', (
        select json_agg(row_to_json(f.*))
        from tidemark.first_values as f
        where f.dimension_name = p_dimension_name and f.surrogate_key in (select v.surrogate_key from version as v)
    ),
    'shell_keys', (
        select json_agg(row_to_json(s.*))
        from tidemark.shell_keys as s
        where s.dimension_name = p_dimension_name and s.business_key in (select k.business_key from key as k)
    ),
    'batches', (
        select json_agg(json_build_object(
            'dimension_name', b.dimension_name, 'shard', b.shard, 'batch_id', b.batch_id, 'sequence', b.sequence,
            'columns', b.columns, 'is_logged', b.is_logged
        ))
        from tidemark.batches as b
        where b.dimension_name = p_dimension_name
            and b.batch_id in (select v.batch_id from version as v union select a.batch_id from absorbed as a)
    )
);
$$;

create or replace function tidemark._store_kept(
    p_sent json,
    p_kept json
)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Keeps here what a node has made of what was sent to it (tidemark._kept_for), and what it has added: only differences are written.
with sent as materialized (
    select s.* from json_populate_recordset(null::tidemark.absorbed_changes, tidemark._rows_of(p_sent, 'absorbed_changes')) as s
),
kept as materialized (
    select k.* from json_populate_recordset(null::tidemark.absorbed_changes, tidemark._rows_of(p_kept, 'absorbed_changes')) as k
)
delete from tidemark.absorbed_changes as a
using sent as s
where p_kept is not null and a.dimension_name = s.dimension_name and a.shard = s.shard and a.batch_id = s.batch_id
    and a.change_line = s.change_line
    and not exists (
        select from kept as k where k.shard = s.shard and k.batch_id = s.batch_id and k.change_line = s.change_line
    );
insert into tidemark.absorbed_changes as a
select k.* from json_populate_recordset(null::tidemark.absorbed_changes, tidemark._rows_of(p_kept, 'absorbed_changes')) as k
on conflict (dimension_name, shard, batch_id, change_line) do update
set reason = excluded.reason, closed_at = excluded.closed_at, surrogate_key = excluded.surrogate_key
where (a.reason, a.closed_at, a.surrogate_key) is distinct from (excluded.reason, excluded.closed_at, excluded.surrogate_key);

delete from tidemark.first_values as f
using json_populate_recordset(null::tidemark.first_values, tidemark._rows_of(p_sent, 'first_values')) as s
where p_kept is not null and f.dimension_name = s.dimension_name and f.surrogate_key = s.surrogate_key
    and not exists (
        select
        from json_populate_recordset(null::tidemark.first_values, tidemark._rows_of(p_kept, 'first_values')) as k
        where k.surrogate_key = s.surrogate_key
    );
insert into tidemark.first_values
select k.* from json_populate_recordset(null::tidemark.first_values, tidemark._rows_of(p_kept, 'first_values')) as k
on conflict do nothing;
insert into tidemark.former_keys
select k.* from json_populate_recordset(null::tidemark.former_keys, tidemark._rows_of(p_kept, 'former_keys')) as k
on conflict do nothing;
$$;

create or replace function tidemark._store_events(
    p_batch tidemark.batches,
    p_events json []
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Notes the events that nodes have noted of their parts of a batch as one group: those of a key are of one node, and keep their order.
declare
    v_group bigint;
begin
    if cardinality(p_events) = 0 then
        return;
    end if;
    v_group := nextval('tidemark.event_groups_group_id_seq');
    with noted as (
        insert into tidemark.events (
            group_id, place, kind, is_end, business_key, version_key, before_key, effective_at, change_line
        )
        select v_group, row_number() over (order by p.number, e.place), e.kind, e.is_end, e.business_key, e.version_key, e.before_key,
            e.effective_at, e.change_line
        from unnest(p_events) with ordinality as p (events, number)
        cross join lateral json_populate_recordset(null::tidemark.events, p.events) as e
        returning group_id
    )
    insert into tidemark.event_groups (group_id, dimension_name, batch_id, event_count)
    select n.group_id, p_batch.dimension_name, p_batch.batch_id, count(*) from noted as n group by n.group_id;
end;
$$;

create or replace function tidemark._rows_of(
    p_kept json,
    p_table text
)
returns json
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
-- The rows of one table in what is sent to a node, or comes from it; null where there are none.
select case json_typeof(p_kept -> p_table) when 'array' then p_kept -> p_table end;
$$;
