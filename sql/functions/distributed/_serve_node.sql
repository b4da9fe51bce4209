create or replace function tidemark._serve_node(
    p_request jsonb,
    p_changes json,
    p_kept json
)
returns json
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
as $$
-- What a node does for the coordinator: {"call": apply, converge or slice} for the shard that p_request names ("shard": its table, "id",
-- and "node": the group of nodes that holds it). Where the functions of the shard are not there, or not those of "digest", the answer is
-- {"lacks": true}, and the coordinator sends "definitions" (tidemark._node_definitions) along with the same request. So they are written at
-- first use, and again after a shard was moved or split, or the mapping altered.
-- Tables of Tidemark are empty on a node: into them goes what the coordinator sent (p_kept), the compiled function reads and writes them
-- as it would at home, and what is in them then is the answer. They are emptied before it is given: no other transaction sees a row.
-- A shard that the coordinator holds itself (node 0) is served from its own tables.
-- Runs within the transaction of the coordinator, with the rights of its caller.
-- Errors: TM034 this is not the node that holds the shard; and what the compiled functions raise.
declare
    v_node integer;
    v_result json;
    v_constraint text;
    v_detail text;
begin
    execute 'select groupid from pg_catalog.pg_dist_local_group' into v_node;
    if v_node is distinct from (p_request ->> 'node')::integer or to_regclass(p_request ->> 'shard') is null then
        raise exception using
            errcode = 'TM034',
            message = 'Citus did not call the node that holds the keys',
            detail = format('shard=%s expected_node=%s called_node=%s', p_request ->> 'shard', p_request ->> 'node', v_node),
            hint = 'nothing was written: try again in another session; "tidemark doctor" looks at the cluster';
    end if;
    if p_request -> 'definitions' is not null then
        perform tidemark._install_on_node((p_request ->> 'definitions')::json, p_request ->> 'digest', v_node = 0);
    elsif not exists (
        select
        from pg_proc as p
        where p.pronamespace = 'tidemark'::regnamespace and p.proname = p_request ->> 'function'
            and strpos(p.prosrc, p_request ->> 'digest') > 0
    ) then
        return '{"lacks": true}';
    end if;

    if v_node <> 0 then
        perform tidemark._keep_on_node(p_kept);
    end if;
    -- Statements: the tables may be there only now.
    execute format(
        case p_request ->> 'call'
            when 'apply' then 'select row_to_json(r.*) from %s, tidemark.%I(b, $2, $3, $4, $5) as r'
            when 'converge' then 'select row_to_json(r.*) from %s, tidemark.%I(b, $2, $3, $4) as r'
            when 'slice' then 'select tidemark.%2$I(b, $2, $6) from %1$s'
        end,
        'json_populate_record(null::tidemark.batches, $1) as b', p_request ->> 'function'
    )
    into v_result
    using
        (p_request ->> 'batch')::json, p_changes,
        (
            select array_agg(l.line::integer order by l.place)
            from jsonb_array_elements_text(p_request -> 'lines') with ordinality as l (line, place)
        ),
        (select coalesce(array_agg(m.name), '{}') from jsonb_array_elements_text(p_request -> 'missing') as m (name)),
        (p_request ->> 'in_order_since')::timestamptz, (p_request ->> 'is_last')::boolean;
    return json_build_object('result', v_result, 'kept', case when v_node <> 0 then tidemark._taken_from_node() end);
exception
    -- Of an error Citus hands on what it says, not the constraint that it is about: that goes as its hint, without the number of the shard.
    when integrity_constraint_violation then
        get stacked diagnostics v_constraint = constraint_name, v_detail = pg_exception_detail;
        raise exception using
            errcode = sqlstate, message = sqlerrm, detail = v_detail,
            hint = regexp_replace(v_constraint, '_' || (p_request ->> 'id') || '$', '');
end;
$$;

revoke execute on function tidemark._serve_node (jsonb, json, json) from public;

create or replace function tidemark._install_on_node(
    p_definitions json,
    p_digest text,
    p_is_home boolean
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set client_min_messages = warning
as $$
-- Writes the functions of a shard on the node that holds it, and the tables that they name where they are not there, or not as they are
-- meant to be: they are empty, but for what other transactions have in them at this moment, and the functions of other shards go with
-- them until they are asked for. On the coordinator (p_is_home) the tables are there.
declare
    v_propagates text := current_setting('citus.enable_ddl_propagation');
    v_table record;
    v_statement text;
begin
    perform set_config('citus.enable_ddl_propagation', 'off', true);
    perform pg_advisory_xact_lock(hashtextextended('tidemark.node', 0));
    for v_table in
        select t.item ->> 0 as name, t.item ->> 1 as statement
        from json_array_elements(p_definitions -> 'tables') as t (item)
        where not p_is_home
    loop
        if obj_description(to_regclass('tidemark.' || v_table.name), 'pg_class') is distinct from
            'For the coordinator, which has the rows: empty between transactions. ' || md5(v_table.statement)
        then
            if to_regclass('tidemark.' || v_table.name) is not null then
                execute format('drop table tidemark.%I cascade', v_table.name);
            end if;
            execute v_table.statement;
            execute format(
                'comment on table tidemark.%I is %L', v_table.name,
                'For the coordinator, which has the rows: empty between transactions. ' || md5(v_table.statement)
            );
        end if;
    end loop;
    for v_statement in select f.statement from json_array_elements_text(p_definitions -> 'functions') as f (statement) loop
        execute replace(v_statement, '{digest}', p_digest);
    end loop;
    perform set_config('citus.enable_ddl_propagation', v_propagates, true);
end;
$$;

revoke execute on function tidemark._install_on_node (json, text, boolean) from public;

create or replace function tidemark._keep_on_node(
    p_kept json
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Puts what the coordinator sent along into the tables of a node: rows as JSON, by the name of their table.
declare
    v_name text;
begin
    for v_name in select k.name from json_object_keys(p_kept) as k (name) where json_typeof(p_kept -> k.name) = 'array'
    loop
        execute format(
            'insert into tidemark.%1$I select r.* from json_populate_recordset(null::tidemark.%1$I, $1) as r', v_name
        )
        using p_kept -> v_name;
    end loop;
end;
$$;

revoke execute on function tidemark._keep_on_node (json) from public;

create or replace function tidemark._taken_from_node()
returns json
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Takes all rows that this transaction sees out of the tables of a node, and gives those that the coordinator keeps, as JSON by table.
declare
    v_kept json;
begin
    execute $statement$
        with absorbed as (delete from tidemark.absorbed_changes as t returning t.*),
        first as (delete from tidemark.first_values as t returning t.*),
        former as (delete from tidemark.former_keys as t returning t.*),
        event as (delete from tidemark.events as t returning t.*),
        event_group as (delete from tidemark.event_groups),
        batch as (delete from tidemark.batches),
        shell as (delete from tidemark.shell_keys)
        select json_build_object(
            'absorbed_changes', (select json_agg(row_to_json(t.*)) from absorbed as t),
            'first_values', (select json_agg(row_to_json(t.*)) from first as t),
            'former_keys', (select json_agg(row_to_json(t.*)) from former as t),
            'events', (select json_agg(row_to_json(t.*)) from event as t)
        )
    $statement$
    into v_kept;
    return v_kept;
end;
$$;

revoke execute on function tidemark._taken_from_node() from public;
