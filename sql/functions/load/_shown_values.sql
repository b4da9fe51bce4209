-- The values of some members of a JSON object for a person to read: name=value, each value cut after 40 characters.
create or replace function tidemark._shown_values(
    p_object json,
    p_names text []
)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
select string_agg(
    format('%s=%s', e.name, case when length(e.value) > 40 then left(e.value, 40) || '...' else coalesce(e.value, 'null') end),
    ', ' order by e.place
)
from json_each_text(case when json_typeof(p_object) = 'object' then p_object end) with ordinality as e (name, value, place)
where e.name = any (p_names);
$$;
