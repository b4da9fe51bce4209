create or replace function tidemark._lineage_dataset(
    p_producer text,
    p_namespace text,
    p_name text,
    p_fields json,
    p_origins json
)
returns json
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
-- A dataset of OpenLineage, with the facets of its columns, and, where it is written, of what they are made of.
select json_build_object('namespace', p_namespace, 'name', p_name, 'facets', coalesce(json_object_agg(f.member, json_build_object(
    '_producer', p_producer,
    '_schemaURL', format('https://openlineage.io/spec/facets/1-2-0/%1$s.json#/$defs/%1$s', f.facet),
    'fields', f.fields
)), '{}'))
from (values
    ('schema', 'SchemaDatasetFacet', p_fields),
    ('columnLineage', 'ColumnLineageDatasetFacet', p_origins)
) as f (member, facet, fields)
where f.fields is not null;
$$;

create or replace function tidemark._lineage_origins(
    p_dimension_name text,
    p_namespace text,
    p_name text,
    p_is_history boolean
)
returns json
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Each column of what is written, by the columns of what is read that it is made of: as they are, but for the times of a version, of
-- which the next effective time makes the end.
select json_object_agg(w.written, json_build_object('inputFields', w.inputs) order by w.ordinal)
from (
    select o.written, min(o.ordinal) as ordinal, json_agg(json_build_object(
        'namespace', p_namespace, 'name', p_name, 'field', o.source_column,
        'transformations', json_build_array(json_build_object('type', 'DIRECT', 'subtype', o.how))
    ) order by o.ordinal) as inputs
    from (
        select distinct on (t.written, c.source_column) t.written, t.how, c.source_column, c.ordinal
        from tidemark.dimension_columns as c
        cross join lateral (values
            (case when p_is_history then c.history_column else c.source_column end,
                case when p_is_history and c.column_role in ('effective time', 'insert time') then 'TRANSFORMATION' else 'IDENTITY' end),
            (case when p_is_history and c.column_role = 'effective time' then 'valid_to' end, 'TRANSFORMATION')
        ) as t (written, how)
        where c.dimension_name = p_dimension_name and c.retired_at is null and t.written is not null
        order by t.written, c.source_column, c.ordinal
    ) as o
    group by o.written
) as w;
$$;

create or replace function tidemark.lineage_datasets(
    p_producer text,
    p_source_namespace text,
    p_source_database text,
    p_warehouse_namespace text,
    p_log_folder text,
    p_dimension_name text default null
)
returns table (
    dimension_name text,
    extract_datasets json,
    load_datasets json,
    stream_datasets json
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- What each part of the pipeline reads and writes of each dimension, or of one, as "inputs" and "outputs" of an event of OpenLineage: the
-- source table, the folder of its change log below p_log_folder, and its history; columns and what they are made of included, and no
-- value. A reader of the log that loads as well (stream) makes log and history, both of the source table.
select d.dimension_name,
    json_build_object('inputs', json_build_array(s.dataset), 'outputs', json_build_array(w.log)),
    json_build_object('inputs', json_build_array(r.log), 'outputs', json_build_array(h.of_log)),
    json_build_object('inputs', json_build_array(s.dataset), 'outputs', json_build_array(w.log, h.of_source))
from tidemark.dimensions as d
join pg_class as k on k.oid = d.history_relation
cross join lateral (
    select format('%s.%s.%s', p_source_database, d.source_schema, d.source_table) as source_name,
        format('%s/%s', p_log_folder, d.dimension_name) as log_name,
        format('%s.%s.%s', current_database(), k.relnamespace::regnamespace, k.relname) as history_name,
        (
            select json_agg(json_build_object('name', f.source_column) order by f.ordinal)
            from (
                select c.source_column, min(c.ordinal) as ordinal
                from tidemark.dimension_columns as c
                where c.dimension_name = d.dimension_name and c.retired_at is null
                group by c.source_column
            ) as f
        ) as source_fields,
        (
            select json_agg(json_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod)) order by a.attnum)
            from pg_attribute as a
            where a.attrelid = k.oid and a.attnum > 0 and not a.attisdropped
        ) as history_fields
) as n
cross join lateral (
    select tidemark._lineage_dataset(p_producer, p_source_namespace, n.source_name, n.source_fields, null) as dataset
) as s
cross join lateral (
    select tidemark._lineage_dataset(p_producer, 'file', n.log_name, n.source_fields, null) as log
) as r
cross join lateral (
    select tidemark._lineage_dataset(
        p_producer, 'file', n.log_name, n.source_fields,
        tidemark._lineage_origins(d.dimension_name, p_source_namespace, n.source_name, false)
    ) as log
) as w
cross join lateral (
    select
        tidemark._lineage_dataset(
            p_producer, p_warehouse_namespace, n.history_name, n.history_fields,
            tidemark._lineage_origins(d.dimension_name, 'file', n.log_name, true)
        ) as of_log,
        tidemark._lineage_dataset(
            p_producer, p_warehouse_namespace, n.history_name, n.history_fields,
            tidemark._lineage_origins(d.dimension_name, p_source_namespace, n.source_name, true)
        ) as of_source
) as h
where d.dimension_name = coalesce(p_dimension_name, d.dimension_name);
$$;
