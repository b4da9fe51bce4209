create or replace function tidemark.open_replay(
    p_dimension_name text,
    p_is_locked boolean
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Makes a scratch dimension that is like another one in all but its history, which is an empty temporary table: to replay batches
-- into, compare with tidemark.compare_replay, and throw away with the transaction, or keep with tidemark.adopt_replay.
-- Nobody else sees it, and it must not outlive the transaction. With p_is_locked it takes the live dimension for itself, so that
-- no batch is loaded meanwhile. Locks the list of dimensions against registrations. Errors: TM002 unknown dimension,
-- TM025 its history table is gone.
declare
    v_scratch text := tidemark._replay_name(p_dimension_name);
begin
    perform tidemark._assert_dimension_known(p_dimension_name);
    perform tidemark._assert_history_there(p_dimension_name);
    if p_is_locked then
        perform tidemark._lock_dimension(p_dimension_name, '');
    end if;

    execute format(
        'create temporary table %I (like %s including all) on commit drop',
        v_scratch, (select d.history_relation from tidemark.dimensions as d where d.dimension_name = p_dimension_name)
    );
    -- One of a history with partitions needs none, and numbers its versions itself.
    if (select tidemark._is_partitioned(d.history_relation) from tidemark.dimensions as d where d.dimension_name = p_dimension_name) then
        execute format(
            'alter table pg_temp.%I alter surrogate_key drop default, alter surrogate_key add generated always as identity', v_scratch
        );
    end if;
    -- Batches are applied with the rights of the owner of apply_batch_parts, who may be another than the one who asks, a superuser say.
    execute (
        select format('grant select, insert, update, delete on table pg_temp.%I to %I', v_scratch, pg_get_userbyid(p.proowner))
        from pg_proc as p
        where p.oid = 'tidemark.apply_batch_parts(json, json)'::regprocedure
    );
    insert into tidemark.dimensions
    select (jsonb_populate_record(d, jsonb_build_object(
        'dimension_name', v_scratch, 'history_relation', format('pg_temp.%I', v_scratch)::regclass::oid,
        'pruned_before', null, 'pruned_known_at', null, 'events_since', null, 'distributed_by', null
    ))).*
    from tidemark.dimensions as d
    where d.dimension_name = p_dimension_name;
    insert into tidemark.dimension_columns
    select (jsonb_populate_record(c, jsonb_build_object('dimension_name', v_scratch))).*
    from tidemark.dimension_columns as c
    where c.dimension_name = p_dimension_name;
    insert into tidemark.former_column_names
    select (jsonb_populate_record(f, jsonb_build_object('dimension_name', v_scratch))).*
    from tidemark.former_column_names as f
    where f.dimension_name = p_dimension_name;
    perform tidemark.compile_dimension(v_scratch);
    execute (
        select format('grant execute on function %s, %s to %I', a.name, c.name, pg_get_userbyid(p.proowner))
        from pg_proc as p
        cross join tidemark._compiled_signature('apply', v_scratch) as a (name)
        cross join tidemark._compiled_signature('converge', v_scratch) as c (name)
        where p.oid = 'tidemark.apply_batch_parts(json, json)'::regprocedure
    );
end;
$$;
