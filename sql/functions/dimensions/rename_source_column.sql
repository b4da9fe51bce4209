create or replace function tidemark.rename_source_column(
    p_dimension_name text,
    p_from text,
    p_to text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Follows a column that was renamed at the source: the mapping, and what is kept aside by source column, take the new name.
-- The history column keeps its own, and batches from before the rename still load (tidemark._with_present_names).
-- Run once, from a migration. Rewrites the absorbed, rejected and retracted changes of the dimension.
-- Errors: TM007 where the mapping has no such column, or has the new name already.
begin
    perform tidemark._lock_dimension(p_dimension_name, '');
    if exists (
        select from tidemark.dimension_columns as c where c.dimension_name = p_dimension_name and c.source_column = p_to
    ) or not exists (
        select from tidemark.dimension_columns as c where c.dimension_name = p_dimension_name and c.source_column = p_from
    ) then
        raise exception using
            errcode = 'TM007',
            message = format('source column %s cannot be renamed to %s', p_from, p_to),
            detail = format('dimension=%s', p_dimension_name),
            hint = 'tidemark.dimension_columns lists the mapping: it must have the old name, and not the new one';
    end if;

    update tidemark.dimension_columns as c
    set source_column = p_to
    where c.dimension_name = p_dimension_name and c.source_column = p_from;

    update tidemark.dimensions as d
    set deleted_column = p_to
    where d.dimension_name = p_dimension_name and d.deleted_column = p_from;

    update tidemark.former_column_names as f
    set source_column = p_to
    where f.dimension_name = p_dimension_name and f.source_column = p_from;
    insert into tidemark.former_column_names (dimension_name, former_name, source_column)
    values (p_dimension_name, p_from, p_to)
    on conflict (dimension_name, former_name, source_column) do nothing;
    delete from tidemark.former_column_names as f
    where f.dimension_name = p_dimension_name and f.former_name = f.source_column;

    update tidemark.batches as b
    set columns = array_replace(b.columns, p_from, p_to)
    where b.dimension_name = p_dimension_name;

    update tidemark.absorbed_changes as a
    set change = tidemark._rename_members(a.change, array[p_from], array[p_to])
    where a.dimension_name = p_dimension_name;

    update tidemark.rejected_changes as r
    set change = tidemark._rename_members(r.change, array[p_from], array[p_to])
    where r.dimension_name = p_dimension_name and json_typeof(r.change) = 'object';

    update tidemark.retracted_changes as r
    set change = tidemark._rename_members(r.change, array[p_from], array[p_to])
    where r.dimension_name = p_dimension_name and json_typeof(r.change) = 'object';

    update tidemark.first_values as f
    set values_before = tidemark._rename_members(f.values_before, array[p_from], array[p_to])
    where f.dimension_name = p_dimension_name;
    perform tidemark.compile_dimension(p_dimension_name);
end;
$$;
