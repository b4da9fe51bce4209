create or replace function tidemark._fill_template(
    p_template text,
    p_fragments json
)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
-- Replaces every {name} of a template by the fragment of that name, in a single pass: a fragment is never searched again,
-- so that a column called "{history}" does no harm. A name without a fragment makes the result null.
select case
    when bool_and(f.fragment is not null) then string_agg(f.fragment, '' order by f.place)
end
from (
    select m.place, case when m.part[1] like '{_%}' then p_fragments ->> btrim(m.part[1], '{}') else m.part[1] end
    from regexp_matches(p_template, '\{[a-z_]+\}|[^{]+|\{', 'g') with ordinality as m (part, place)
) as f (place, fragment);
$$;
