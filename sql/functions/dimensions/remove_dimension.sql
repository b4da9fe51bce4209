create or replace function tidemark.remove_dimension(
    p_dimension_name text,
    p_drop_history boolean default false
)
returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Takes a dimension out: its mapping, its ledger, what comparisons found and the changes kept aside. The history table stays, as a table
-- like any other, unless p_drop_history: then it goes, with its current view and the functions beside it, if nothing else depends on it.
-- Waits for a loader of the dimension to end its batch; locks the list of dimensions. Returns the name of the history table.
-- Errors: TM002 unknown dimension; TM013 something of somebody else depends on the history, and nothing is changed.
declare
    v_history regclass;
    v_history_name text;
    v_dependents text;
begin
    perform tidemark._assert_dimension_known(p_dimension_name);
    perform tidemark._lock_dimension(p_dimension_name, '');
    lock table tidemark.dimensions in share row exclusive mode;
    perform tidemark.abandon_partitioning(p_dimension_name);

    select d.history_relation, d.history_relation::text into v_history, v_history_name
    from tidemark.dimensions as d
    where d.dimension_name = p_dimension_name;

    delete from tidemark.forgotten_contents as c where c.dimension_name = p_dimension_name;
    delete from tidemark.shell_keys as s where s.dimension_name = p_dimension_name;
    delete from tidemark.rejected_changes as r where r.dimension_name = p_dimension_name;
    delete from tidemark.absorbed_changes as a where a.dimension_name = p_dimension_name;
    delete from tidemark.retracted_changes as r where r.dimension_name = p_dimension_name;
    delete from tidemark.retractions as r where r.dimension_name = p_dimension_name;
    delete from tidemark.batches as b where b.dimension_name = p_dimension_name;
    delete from tidemark.actions as a where a.dimension_name = p_dimension_name;
    delete from tidemark.reconciliations as c where c.dimension_name = p_dimension_name;
    delete from tidemark.first_values as f where f.dimension_name = p_dimension_name;
    delete from tidemark.former_column_names as f where f.dimension_name = p_dimension_name;
    delete from tidemark.retyped_columns as t where t.dimension_name = p_dimension_name;
    delete from tidemark.ignored_columns as i where i.dimension_name = p_dimension_name;
    delete from tidemark.changes_known_later as n where n.dimension_name = p_dimension_name;
    delete from tidemark.former_keys as f where f.dimension_name = p_dimension_name;
    delete from tidemark.events as e
    using tidemark.event_groups as g
    where g.dimension_name = p_dimension_name and e.group_id = g.group_id;
    delete from tidemark.event_groups as g where g.dimension_name = p_dimension_name;
    delete from tidemark.exports as e where e.dimension_name = p_dimension_name;
    perform tidemark._drop_compiled(p_dimension_name);
    delete from tidemark.dimension_columns as c where c.dimension_name = p_dimension_name;
    delete from tidemark.dimensions as d where d.dimension_name = p_dimension_name;
    perform tidemark._create_versions_view();

    if p_drop_history then
        perform tidemark._drop_companions(v_history);
        execute format('drop table %s', v_history);
    end if;
    return v_history_name;
exception
    when dependent_objects_still_exist then
        get stacked diagnostics v_dependents = pg_exception_detail;
        raise exception using
            errcode = 'TM013',
            message = format('history %s cannot be dropped: something of your own depends on it', v_history_name),
            detail = format('dimension=%s %s', p_dimension_name, replace(v_dependents, E'\n', '; ')),
            hint = 'drop that first, or remove the table without its history: nothing was changed';
end;
$$;
