create or replace function tidemark.dbt_files()
returns table (
    file_name text,
    content text
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The histories as files of a dbt project: sources, with descriptions from the comments of tables and columns, tests of what holds of every
-- history, and freshness by the ledger, which is a source of its own with a filter; and macros that call the functions beside
-- a history. Scalars are JSON strings, which YAML reads as they are.
with dimension as (
    select d.dimension_name, h.oid, n.nspname as schema_name, h.relname as table_name, obj_description(h.oid, 'pg_class') as description
    from tidemark.dimensions as d
    join pg_class as h on h.oid = d.history_relation and h.relpersistence <> 't'
    join pg_namespace as n on n.oid = h.relnamespace
),
described as (
    select d.dimension_name, string_agg(
        format(e'          - name: %s\n', to_json(a.attname))
        || coalesce(format(e'            description: %s\n', to_json(col_description(d.oid, a.attnum))), '')
        || case
            when a.attname = 'surrogate_key' then e'            tests: [unique, not_null]\n'
            when a.attnotnull then e'            tests: [not_null]\n'
            else ''
        end,
        '' order by a.attnum
    ) as columns
    from dimension as d
    join pg_attribute as a on a.attrelid = d.oid and a.attnum > 0 and not a.attisdropped
    group by d.dimension_name
),
source as (
    select d.schema_name, string_agg(
        format(e'      - name: %s\n', to_json(d.table_name))
        || coalesce(format(e'        description: %s\n', to_json(d.description)), '')
        || e'        columns:\n' || c.columns,
        '' order by d.table_name
    ) as tables
    from dimension as d
    join described as c using (dimension_name)
    group by d.schema_name
)
select
    'models/tidemark_sources.yml',
    e'# Written by "tidemark export dbt" from the catalog of the warehouse, anew each time.\nversion: 2\nsources:\n'
    || (
        select string_agg(
            format(
                e'  - name: %s\n    schema: %s\n    tables:\n%s',
                to_json(case s.schema_name when 'public' then 'tidemark' else 'tidemark_' || s.schema_name end),
                to_json(s.schema_name), s.tables
            ),
            '' order by s.schema_name
        )
        from source as s
    )
    || e'  - name: tidemark_ledger\n    schema: tidemark\n    tables:\n'
    || string_agg(
        format(
            e'      - name: %s\n        identifier: batches\n        description: %s\n        loaded_at_field: applied_at\n'
            '        freshness:\n          warn_after: {count: 1, period: day}\n          filter: %s\n',
            to_json(d.dimension_name), to_json(format('The batches applied to %s.', d.table_name)),
            to_json(format('dimension_name = %L', d.dimension_name))
        ),
        '' order by d.dimension_name
    )
from dimension as d
having count(*) > 0
union all
select
    'macros/tidemark.sql',
    $macros$
{#- Written by "tidemark export dbt": the functions beside a history, for instance
    select * from {{ tidemark_as_of(source('tidemark', 'dim_orders_history'), "'2026-02-01'") }} -#}

{% macro tidemark_as_of(history, moment) -%}
"{{ history.schema }}"."{{ history.identifier }}_as_of"({{ moment }})
{%- endmacro %}

{% macro tidemark_as_known(history, moment, known) -%}
"{{ history.schema }}"."{{ history.identifier }}_as_known"({{ moment }}, {{ known }})
{%- endmacro %}

{% macro tidemark_diff(history, from_moment, to_moment) -%}
"{{ history.schema }}"."{{ history.identifier }}_diff"({{ from_moment }}, {{ to_moment }})
{%- endmacro %}

{% macro tidemark_changes(history, from_moment, to_moment) -%}
"{{ history.schema }}"."{{ history.identifier }}_changes"({{ from_moment }}, {{ to_moment }})
{%- endmacro %}
$macros$;
$$;
