create or replace function tidemark._rename_members(
    p_object json,
    p_from text [],
    p_to text []
)
returns json
language sql
immutable
strict
set search_path = pg_catalog, pg_temp
as $$
-- A JSON object in which some members have other names, in their places and with their values as they stand. All at once: two
-- members may take each other's name.
select format('{%s}', string_agg(
    format('%s:%s', to_json(coalesce(p_to[array_position(p_from, e.name)], e.name)), e.value), ',' order by e.place
))::json
from json_each(p_object) with ordinality as e (name, value, place);
$$;
