-- The key of a change that cannot be applied, as far as it can be told without reading it: in the form of tidemark.versions.
create or replace function tidemark._printed_key(
    p_dimension_name text,
    p_change json
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
select case
    when json_typeof(p_change) = 'object'
        then (
            select format('{%s}', string_agg(
                format('%s : %s', to_json(c.history_column), coalesce((p_change -> c.source_column)::text, 'null')), ', ' order by c.ordinal
            ))
            from tidemark.dimension_columns as c
            where c.dimension_name = p_dimension_name and c.column_role = 'business key'
        )
end;
$$;
