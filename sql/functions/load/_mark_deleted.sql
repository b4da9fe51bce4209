create or replace function tidemark._mark_deleted(
    p_batch tidemark.batches,
    p_changes json
)
returns json
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The changes of a batch of the log, where the source marks deleted rows (deletes soft): one whose row is marked is a DELETE with all its
-- columns, as polling renders it, and needs no value that is not known. Whoever reads the log reads no value.
-- What marks a row is what the batch says of it (log.soft: {"column", "values"}), so that history made anew is the same; else what is
-- declared now. Values are compared as the batch prints them.
declare
    v_column text := p_batch.metadata #>> '{log,soft,column}';
    v_values text [];
begin
    if v_column is not null then
        v_column := coalesce(
            (
                select c.source_column
                from tidemark.dimension_columns as c
                where c.dimension_name = p_batch.dimension_name and c.column_role not like '% time'
                    and c.history_column = p_batch.metadata -> 'history_columns' ->> v_column
            ),
            v_column
        );
        v_values := case
            when json_typeof(p_batch.metadata #> '{log,soft,values}') = 'array'
                then array(select v.value from json_array_elements_text(p_batch.metadata #> '{log,soft,values}') as v (value))
        end;
    else
        select d.deleted_column, d.deleted_values into v_column, v_values
        from tidemark.dimensions as d
        where d.dimension_name = p_batch.dimension_name and d.deletes = 'soft';
    end if;
    if v_column is null then
        return p_changes;
    end if;
    if v_values is not null then
        execute (
            select format(
                'select array_agg(to_json(%s) #>> ''{}'') from (select v.value::%s as %I from unnest($1) as v (value)) as c',
                e.printed, e.full_type, e.history_column
            )
            from tidemark._column_expressions(p_batch.dimension_name) as e
            where e.source_column = v_column
        )
        into v_values using v_values;
    end if;
    return (
        select coalesce(json_agg(
            case
                when (e.change ->> 'operation_type') in ('INSERT', 'UPDATE') and case
                    when v_values is null then (e.change ->> v_column) is not null
                    else (e.change ->> v_column) = any (v_values)
                end
                    then (
                        select ('{' || string_agg(
                            to_json(m.name) || ':' || case m.name when 'operation_type' then '"DELETE"' else m.value::text end,
                            ',' order by m.place
                        ) || '}')::json
                        from json_each(e.change) with ordinality as m (name, value, place)
                        where m.name not in ('unchanged', 'unchanged_of') or json_typeof(m.value) not in ('array', 'object')
                    )
                else e.change
            end
            order by e.place
        ), '[]')
        from json_array_elements(p_changes) with ordinality as e (change, place)
    );
end;
$$;
