create or replace function tidemark.event_schema(
    p_dimension_name text
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The JSON Schema (draft 2020-12) of the events of a dimension, from its mapping and history table as they are: a CloudEvent whose data
-- have key and tracked columns by their types. Columns that are masked are no part of it. Errors: TM002 unknown dimension.
declare
    v_row json;
    v_key json;
    v_columns json;
begin
    perform tidemark._assert_dimension_known(p_dimension_name);
    with property as (
        select e.ordinal, e.history_column, e.column_role = 'business key' as is_key,
            case
                when t.base_type in ('smallint', 'integer', 'bigint') then array['integer']
                -- NaN and infinity are no JSON numbers.
                when t.base_type in ('real', 'double precision') or t.base_type like 'numeric%' then array['number', 'string']
                when t.base_type = 'boolean' then array['boolean']
                else array['string']
            end || case when a.attnotnull or e.column_role = 'business key' then '{}' else array['null'] end as types,
            c.masked_at is not null as is_masked, e.column_role, e.full_type
        from tidemark._column_expressions(p_dimension_name) as e
        join tidemark.dimensions as d on d.dimension_name = p_dimension_name
        join tidemark.dimension_columns as c on c.dimension_name = d.dimension_name and c.history_column = e.history_column
        join pg_attribute as a on a.attrelid = d.history_relation and a.attname = e.history_column
        cross join lateral (select tidemark._undomained_type(a.atttypid, -1) as base_type) as t
        where e.column_role in ('business key', 'tracked')
    )
    select
        json_build_object(
            'type', 'object',
            'properties', json_object_agg(
                p.history_column, json_build_object('type', to_json(p.types), 'description', p.full_type) order by p.ordinal
            ) filter (where not p.is_masked),
            'required', json_agg(p.history_column order by p.ordinal) filter (where not p.is_masked),
            'additionalProperties', false
        ),
        json_build_object(
            'type', '["object", "null"]'::json,
            'description', 'The business key; null where it is forgotten.',
            'required', json_agg(p.history_column order by p.ordinal) filter (where p.is_key)
        ),
        coalesce(json_agg(p.history_column order by p.ordinal) filter (where p.column_role = 'tracked'), '[]')
    into v_row, v_key, v_columns
    from property as p;
    return json_build_object(
        '$schema', 'https://json-schema.org/draft/2020-12/schema',
        'title', format('Events of %s', p_dimension_name),
        'type', 'object',
        'required', '["specversion", "id", "source", "type", "datacontenttype", "sequence", "data"]'::json,
        'properties', json_build_object(
            'specversion', json_build_object('const', '1.0'),
            'id', json_build_object('type', 'string', 'description', '<warehouse>/<table>/<position>, whenever the event is told.'),
            'source', json_build_object('type', 'string', 'format', 'uri-reference'),
            'type', json_build_object('enum', (
                select json_agg(tidemark._event_type(d, k.kind))
                from tidemark.dimensions as d
                cross join unnest(tidemark._event_kinds()) as k (kind)
                where d.dimension_name = p_dimension_name
            )),
            'subject', json_build_object('type', 'string', 'description', 'The key; of several columns, a JSON array of their values.'),
            'time', json_build_object('type', 'string', 'format', 'date-time', 'description', 'As valid_from.'),
            'datacontenttype', json_build_object('const', 'application/json'),
            'partitionkey', json_build_object('type', 'string', 'description', 'The key as JSON: events of one are in their order.'),
            'sequence', json_build_object('type', 'string', 'pattern', '^[0-9]{19}$', 'description', 'The position, in text that sorts.'),
            'data', json_build_object(
                'type', 'object',
                'required', '["kind","key","point","valid_from","before","after","changed","superseded","snapshot","lineage"]'::json,
                'additionalProperties', false,
                'properties', json_build_object(
                    'kind', json_build_object('enum', to_json(tidemark._event_kinds())),
                    'key', v_key,
                    'point', json_build_object(
                        'enum', '["version", "end", null]'::json,
                        'description', 'What it puts at valid_from, or retracts: the beginning of a version, or the end of a life.'
                    ),
                    'valid_from', json_build_object('type', 'string', 'description', 'When that was, in UTC.'),
                    'before', json_build_object('anyOf', json_build_array(json_build_object('type', 'null'), v_row)),
                    'after', json_build_object('anyOf', json_build_array(json_build_object('type', 'null'), v_row)),
                    'changed', json_build_object(
                        'type', '["array", "null"]'::json, 'items', json_build_object('enum', v_columns), 'uniqueItems', true
                    ),
                    'superseded', json_build_object('type', 'boolean'),
                    'snapshot', json_build_object('type', 'boolean'),
                    'lineage', json_build_object(
                        'type', 'object',
                        'required', '["batch_id", "line"]'::json,
                        'properties', json_build_object(
                            'batch_id', json_build_object('type', '["string", "null"]'::json),
                            'line', json_build_object('type', '["integer", "null"]'::json)
                        )
                    )
                )
            )
        )
    )::text;
end;
$$;

create or replace function tidemark._event_kinds()
returns text []
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
-- The kinds of events.
select array['created', 'updated', 'deleted', 'corrected', 'retracted', 'forgotten'];
$$;
