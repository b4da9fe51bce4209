create or replace function tidemark._comment_from_header(
    p_function regprocedure
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Makes the header of a function, the comment that its body begins with, its comment in the catalog: \df+ shows what \sf shows.
-- Safe to repeat. A function whose body begins with no comment keeps the comment it has.
declare
    v_header text := (select substring(p.prosrc from '^\s*((?:--[^\n]*\n)+)') from pg_catalog.pg_proc as p where p.oid = p_function);
begin
    v_header := rtrim(regexp_replace(v_header, '^-- ?', '', 'gn'), e'\n');
    if v_header is not null then
        execute format('comment on function %s is %L', p_function, v_header);
    end if;
end;
$$;

revoke execute on function tidemark._comment_from_header (regprocedure) from public;
