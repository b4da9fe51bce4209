-- What keeps one change from being applied: the column at fault, its value and the reason; nulls where nothing does.
-- The reading of each value is tried, because PostgreSQL 15 cannot say beforehand whether a text is valid for a type.
-- p_columns are those of its batch. Runs only on changes that are known to be bad, which are few.
create or replace function tidemark._find_fault(
    p_dimension_name text,
    p_change json,
    p_extracted_at timestamptz,
    p_columns text [],
    out column_name text,
    out value text,
    out fault text
)
returns record
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_is_delete boolean;
    v_value record;
    v_is_null boolean;
    v_fits boolean;
begin
    if json_typeof(p_change) is distinct from 'object' then
        fault := format('it is not an object but %s', coalesce(json_typeof(p_change), 'null'));
        return;
    end if;
    v_is_delete := (p_change ->> 'operation_type') is not distinct from 'DELETE';
    select f.column_name, f.fault
    into column_name, fault
    from tidemark._column_faults(p_dimension_name, p_change, p_columns) as f
    order by f.column_name
    limit 1;
    if found then
        value := p_change ->> column_name;
        return;
    end if;

    for v_value in
        select e.source_column, e.value_name, e.read_type, e.stored, e.fits,
            e.column_role = 'business key'
                or (a.attnotnull and not v_is_delete and a.attidentity = '' and a.attgenerated = '') as is_required
        from tidemark._column_expressions(p_dimension_name) as e
        join tidemark.dimensions as d on d.dimension_name = p_dimension_name
        join pg_attribute as a on a.attrelid = d.history_relation and a.attname = e.history_column
        union all
        select t.name, 'value_0', 'timestamptz', 'c.value_0', 'true', false
        from (values ('cdc_timestamp'), ('extracted_at')) as t (name)
    loop
        column_name := v_value.source_column;
        value := p_change ->> column_name;
        begin
            execute format(
                'select (%s) is null as is_null, %s as fits from rows from (json_to_record($1) as (%I %s)) as c (%s)',
                v_value.stored, v_value.fits, v_value.source_column, v_value.read_type, v_value.value_name
            )
            into v_is_null, v_fits using p_change;
        exception
            when others then
                fault := sqlerrm;
                return;
        end;
        fault := case
            when v_value.is_required and v_is_null then format('%s is null or missing', column_name)
            when not v_fits then format('%s would be rounded', column_name)
        end;
        if fault is not null then
            return;
        end if;
    end loop;

    select f.column_name, f.fault into column_name, fault from tidemark._broken_rule(p_dimension_name, p_change) as f;
    if fault is null and (p_change ->> 'extracted_at')::timestamptz <> p_extracted_at then
        column_name := 'extracted_at';
        fault := 'extracted_at differs from that of its batch';
    end if;
    value := p_change ->> column_name;
end;
$$;
