-- Remembers of mapped columns that a batch came without them, so that statements look for versions that lack a value.
create or replace function tidemark._note_missing_columns(
    p_dimension_name text,
    p_columns text []
)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
update tidemark.dimension_columns as c
set may_be_missing = true
where c.dimension_name = p_dimension_name
    and c.column_role in ('tracked', 'untracked')
    and not c.may_be_missing
    and c.source_column <> all (p_columns);
$$;
