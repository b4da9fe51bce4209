create or replace function tidemark.abandon_partitioning(
    p_dimension_name text
)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Gives up the copy of a history that was begun (tidemark.begin_partitioning): the history stays as it is. Safe to repeat: it returns
-- whether there was one. Waits until who reads or writes the history has committed, for its triggers go.
declare
    v_begun tidemark.partitionings;
    v_statement text;
begin
    select p.* into v_begun from tidemark.partitionings as p where p.dimension_name = p_dimension_name for update;
    if v_begun.dimension_name is null then
        return false;
    end if;
    for v_statement in
        select format('drop trigger %I on %s', t.tgname, t.tgrelid::regclass)
        from pg_trigger as t
        where t.tgfoid = 'tidemark._list_written()'::regprocedure and t.tgrelid in (
            select v_begun.history_relation
            union all
            select h.part from tidemark._history_parts(v_begun.history_relation) as h (part)
        )
    loop
        execute v_statement;
    end loop;
    perform tidemark._drop_copy(p_dimension_name);
    delete from tidemark.partitionings as p where p.dimension_name = p_dimension_name;
    return true;
end;
$$;

create or replace function tidemark._drop_copy(
    p_dimension_name text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Drops what is left in the schema of a copy, and the schema; not what is somebody else's, which is an error then.
declare
    v_schema text := quote_ident(tidemark._fit_name('tidemark_copy_' || p_dimension_name, ''));
    v_table text;
begin
    for v_table in
        select c.oid::regclass::text
        from tidemark.partitionings as p
        join pg_class as c on c.oid in (p.copy_relation, p.changes_relation)
        join pg_namespace as n on n.oid = c.relnamespace and quote_ident(n.nspname) = v_schema
        where p.dimension_name = p_dimension_name
    loop
        execute format('drop table %s', v_table);
    end loop;
    execute format('drop schema if exists %s', v_schema);
end;
$$;
