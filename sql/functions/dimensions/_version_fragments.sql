-- What differs from dimension to dimension in the templates of tidemark._version_templates, by the name it has there.
-- Tracked columns are compared as tidemark._column_expressions says: where they are equal, PostgreSQL prints the same text.
create or replace function tidemark._version_fragments(
    p_dimension_name text
)
returns json
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
select json_build_object(
    'dimension', quote_literal(p_dimension_name),
    'history', max(d.history_relation::text),
    'at_utc', max(case when f.atttypid = 'timestamp'::regtype then ' at time zone ''UTC''' else '' end),
    'history_key_pairs', string_agg(
        format('%L, %s', e.history_column, tidemark._key_member(a.atttypid, format('h.%I', e.history_column))), ', ' order by e.ordinal
    ) filter (where e.column_role = 'business key'),
    'key_pairs', string_agg(
        format('%L, %s', e.history_column, tidemark._key_member(a.atttypid, 'v.' || e.value_name)), ', ' order by e.ordinal
    ) filter (where e.column_role = 'business key'),
    'keys', string_agg(format('h.%I as %s', e.history_column, e.value_name), ', ' order by e.ordinal)
        filter (where e.column_role = 'business key'),
    'key_columns', string_agg(format('h.%I', e.history_column), ', ' order by e.ordinal) filter (where e.column_role = 'business key'),
    'tracked_columns', coalesce(
        string_agg(format('h.%I', e.history_column), ', ' order by e.ordinal) filter (where e.column_role = 'tracked'), ''
    ),
    'compared_names', coalesce(string_agg('v.' || e.value_name, ', ' order by e.ordinal) filter (where e.column_role = 'tracked'), ''),
    'compared_values', coalesce(
        string_agg(format(', %s as %s', e.compare_history, e.value_name), '' order by e.ordinal)
            filter (where e.column_role = 'tracked'), ''
    ),
    'previous_values', coalesce(
        string_agg(format(', lag(%s) over by_key as previous_%s', e.compare_history, e.ordinal), '' order by e.ordinal)
            filter (where e.column_role = 'tracked'), ''
    ),
    'equals_previous', 'v.previous_surrogate_key is not null' || coalesce(
        string_agg(format(' and v.%s is not distinct from v.previous_%s', e.value_name, e.ordinal), '' order by e.ordinal)
            filter (where e.column_role = 'tracked'), ''
    )
)
from tidemark._column_expressions(p_dimension_name) as e
join tidemark.dimensions as d on d.dimension_name = p_dimension_name
join pg_attribute as a on a.attrelid = d.history_relation and a.attname = e.history_column
join pg_attribute as f on f.attrelid = d.history_relation and f.attname = 'valid_from';
$$;
