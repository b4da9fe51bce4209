create or replace function tidemark.move_source(
    p_dimension_name text,
    p_source_schema text,
    p_source_table text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Follows a source table that was renamed, or has another schema: extraction reads it by this name from now on. The dimension, its history
-- and its change log keep their names, and the chain goes on where it was; a table that is another one is read whole. Safe to repeat.
-- Run from a migration, as "tidemark add --update <old name> --source <new name>" writes it.
-- Errors: TM002 unknown dimension.
begin
    perform tidemark._assert_dimension_known(p_dimension_name);
    perform tidemark._lock_dimension(p_dimension_name, '');

    update tidemark.dimensions as d
    set source_schema = p_source_schema, source_table = p_source_table
    where d.dimension_name = p_dimension_name;
end;
$$;
