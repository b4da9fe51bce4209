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
-- members may take each other's name. So do the names that a change of the log has in "unchanged" and "unchanged_of".
select format('{%s}', string_agg(
    format(
        '%s:%s',
        to_json(coalesce(p_to[array_position(p_from, e.name)], e.name)),
        case
            when e.name = 'unchanged' and json_typeof(e.value) = 'array' then (
                select json_agg(coalesce(p_to[array_position(p_from, u.name)], u.name) order by u.place)
                from json_array_elements_text(e.value) with ordinality as u (name, place)
            )
            when e.name = 'unchanged_of' and json_typeof(e.value) = 'object' then tidemark._rename_members(e.value, p_from, p_to)
            else e.value
        end
    ),
    ',' order by e.place
))::json
from json_each(p_object) with ordinality as e (name, value, place);
$$;
