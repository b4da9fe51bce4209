create or replace function tidemark._comparison_query(
    p_dimension_name text
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The query of the versions in force of a dimension, for comparing them with the source (tidemark._compared_row).
select format('select %s from %s as h where h.is_current', tidemark._compared_row(p_dimension_name), d.history_relation)
from tidemark.dimensions as d
where d.dimension_name = p_dimension_name;
$$;

create or replace function tidemark._compared_row(
    p_dimension_name text
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- What is compared of a version h with a row of the source, for the list of a select: key (a JSON array of texts, as text) and content (key
-- and stored columns as PostgreSQL prints a row of texts). The runner asks the source for the same of its rows. A key is printed in one
-- form (tidemark._key_member): 5.0 that became 5.00 at the source is the same key, and no difference.
select format(
    'json_build_array(%s)::text as key, row(%s)::text as content',
    string_agg(p.text, ', ' order by c.ordinal) filter (where c.column_role = 'business key'),
    string_agg(p.text, ', ' order by c.ordinal)
)
from tidemark.dimensions as d
join tidemark.dimension_columns as c on c.dimension_name = d.dimension_name
join pg_attribute as a on a.attrelid = d.history_relation and a.attname = c.history_column
cross join lateral format('h.%I', c.history_column) as v (value)
cross join lateral format(
    '(%s)::text', case when c.column_role = 'business key' then tidemark._key_member(a.atttypid, v.value) else v.value end
) as p (text)
where d.dimension_name = p_dimension_name and c.column_role in ('business key', 'tracked', 'untracked');
$$;
