create or replace function tidemark._undomained_type(
    p_type_id oid,
    p_modifier integer
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The name of a type with its modifier, as PostgreSQL prints it; a domain is looked through to the type beneath it.
-- Null for null. Types outside pg_catalog are printed with their schema.
with recursive step as (
    select p_type_id as type_id, p_modifier as modifier, 1 as depth
    union all
    select t.typbasetype, t.typtypmod, s.depth + 1
    from step as s
    join pg_type as t on t.oid = s.type_id
    where t.typtype = 'd'
)
select format_type(s.type_id, s.modifier)
from step as s
order by s.depth desc
limit 1;
$$;
