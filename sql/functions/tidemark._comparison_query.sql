-- The query of the versions in force of a dimension, for comparing them with the source: key (a JSON array of texts, as text) and content
-- (key and stored columns as PostgreSQL prints a row of texts). The runner asks the source for the same of its rows.
create or replace function tidemark._comparison_query(
    p_dimension_name text
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
select format(
    'select json_build_array(%s)::text as key, row(%s)::text as content from %s as h where h.is_current',
    string_agg(format('h.%I::text', c.history_column), ', ' order by c.ordinal) filter (where c.column_role = 'business key'),
    string_agg(format('h.%I::text', c.history_column), ', ' order by c.ordinal),
    d.history_relation
)
from tidemark.dimensions as d
join tidemark.dimension_columns as c on c.dimension_name = d.dimension_name
where d.dimension_name = p_dimension_name and c.column_role in ('business key', 'tracked', 'untracked')
group by d.history_relation;
$$;
