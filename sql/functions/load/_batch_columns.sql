-- The source columns that the changes of a batch have, deletes apart: null where there are none but deletes. A batch that
-- Tidemark wrote states them once (p_stated); in any other document every change is looked at.
-- Errors: TM004 where the batch states a column that is not mapped, which would be lost without a word, or not its key.
create or replace function tidemark._batch_columns(
    p_dimension_name text,
    p_batch_id text,
    p_stated json,
    p_changes json
)
returns text []
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_columns text [];
    v_column text;
    v_fault text;
begin
    if p_stated is null then
        select array_agg(distinct k.name order by k.name)
        into v_columns
        from json_array_elements(p_changes) as e (change)
        cross join lateral json_object_keys(e.change) as k (name)
        where json_typeof(e.change) = 'object' and (e.change ->> 'operation_type') is distinct from 'DELETE'
            and k.name not in ('operation_type', 'cdc_timestamp', 'extracted_at');
        return v_columns;
    end if;

    select array_agg(s.name) into v_columns from json_array_elements_text(p_stated) as s (name);
    select f.column_name, f.fault
    into v_column, v_fault
    from (
        select s.name, 'is not mapped to history'
        from unnest(v_columns) as s (name)
        where s.name not in ('operation_type', 'cdc_timestamp', 'extracted_at') and not exists (
            select from tidemark.dimension_columns as c where c.dimension_name = p_dimension_name and c.source_column = s.name
        )
        union all
        select c.source_column, 'is missing'
        from tidemark.dimension_columns as c
        where c.dimension_name = p_dimension_name and c.column_role = 'business key' and c.source_column <> all (coalesce(v_columns, '{}'))
    ) as f (column_name, fault)
    order by f.column_name
    limit 1;

    if found then
        raise exception using
            errcode = 'TM004',
            message = format('the batch cannot be applied: its column %s %s', v_column, v_fault),
            detail = format('table=%s batch=%s column=%s', p_dimension_name, p_batch_id, v_column),
            hint = 'map the column in a migration in migrations/dimensions, then load again';
    end if;
    return v_columns;
end;
$$;
