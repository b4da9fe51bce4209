create or replace function tidemark.ignore_columns(
    p_dimension_name text,
    p_source_columns text []
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Notes that source columns are left out of a dimension on purpose, so that nobody is warned of them. Safe to repeat.
-- Called by the migration that registers the dimension, or by a later one.
-- Errors: TM002 unknown dimension; TM007 a column is mapped to history.
declare
    v_mapped text;
begin
    perform tidemark._assert_dimension_known(p_dimension_name);

    select string_agg(c.source_column, ', ' order by c.ordinal) into v_mapped
    from tidemark.dimension_columns as c
    where c.dimension_name = p_dimension_name and c.source_column = any (p_source_columns);
    if v_mapped is not null then
        raise exception using
            errcode = 'TM007',
            message = 'a column that is mapped to history cannot be ignored',
            detail = format('dimension=%s columns=%s', p_dimension_name, v_mapped),
            hint = 'a column that the source no longer has is retired: tidemark.retire_source_column';
    end if;

    insert into tidemark.ignored_columns (dimension_name, source_column)
    select distinct p_dimension_name, c.name
    from unnest(p_source_columns) as c (name)
    on conflict (dimension_name, source_column) do nothing;
    perform tidemark.compile_dimension(p_dimension_name);
end;
$$;
