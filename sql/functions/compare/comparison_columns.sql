create or replace function tidemark.comparison_columns(
    p_dimension_name text
)
returns table (
    columns json,
    deletes text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- What a row of the source consists of when it is compared with history: its columns in the order of the mapping, each with its role and
-- with the type and modifier that it is stored with. Also says how deletes at the source are found.
-- Errors: TM025 the history table is gone.
#variable_conflict use_column
begin
    perform tidemark._assert_history_there(p_dimension_name);
    return query
    select
        json_agg(
            json_build_object('source', c.source_column, 'role', c.column_role, 'stored_type', format_type(a.atttypid, a.atttypmod))
            order by c.ordinal
        ),
        d.deletes
    from tidemark.dimensions as d
    join tidemark.dimension_columns as c on c.dimension_name = d.dimension_name
    join pg_attribute as a on a.attrelid = d.history_relation and a.attname = c.history_column
    where d.dimension_name = p_dimension_name and c.column_role in ('business key', 'tracked', 'untracked')
    group by d.dimension_name;
end;
$$;
