create or replace function tidemark._undomained_type(
    p_type_id oid,
    p_modifier integer
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The name of a type with its modifier, as PostgreSQL prints it; a domain is looked through to the type beneath it.
-- Null for null. Types outside pg_catalog are printed with their schema.
declare
    v_base oid;
    v_modifier integer;
begin
    loop
        select t.typbasetype, t.typtypmod into v_base, v_modifier from pg_type as t where t.oid = p_type_id and t.typtype = 'd';
        exit when not found;
        p_type_id := v_base;
        p_modifier := v_modifier;
    end loop;
    return format_type(p_type_id, p_modifier);
end;
$$;
