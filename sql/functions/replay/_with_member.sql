create or replace function tidemark._with_member(
    p_object json,
    p_name text,
    p_value json
)
returns json
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
-- A JSON object with one member set: in its place where it is there, else at the end. The other values stay as they are written.
select ('{' || string_agg(to_json(m.name) || ':' || m.value, ',' order by m.place) || '}')::json
from (
    select e.name, case e.name when p_name then p_value::text else e.value::text end as value, e.place
    from json_each(p_object) with ordinality as e (name, value, place)
    union all
    select p_name, p_value::text, 9223372036854775807
    where not exists (select from json_object_keys(p_object) as k (name) where k.name = p_name)
) as m;
$$;
