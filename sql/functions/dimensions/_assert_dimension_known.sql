create or replace function tidemark._assert_dimension_known(
    p_dimension_name text
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Makes sure that a dimension is registered, before something is done with it.
-- Errors: TM002 it is not.
begin
    if not exists (select from tidemark.dimensions as d where d.dimension_name = p_dimension_name) then
        raise exception using
            errcode = 'TM002',
            message = 'no dimension of that name is registered',
            detail = format('dimension=%s', p_dimension_name),
            hint = 'npx tidemark table list shows those that are';
    end if;
end;
$$;
