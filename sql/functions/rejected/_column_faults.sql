create or replace function tidemark._column_faults(
    p_dimension_name text,
    p_change json,
    p_columns text []
)
returns table (
    column_name text,
    fault text,
    is_of_shape boolean
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The members of a change that history does not know, and those it needs and does not find: one row each.
-- A column that is unknown would be lost without a word, and one that is missing would look like a null. What other changes of
-- its batch have (p_columns) a change must have too; what the whole batch came without is no fault. A DELETE needs its key only.
-- Of a change of the log, columns that did not change since a state that history does not have (tidemark._fill_unchanged).
-- Of a change that could not be read at the source, its columns that are no valid UTF-8 there, with their bytes escaped.
-- is_of_shape: every change with these members has the fault, whatever their values.
with present as (
    select k.name from json_object_keys(p_change) as k (name)
),
unchanged as (
    select u.name
    from json_array_elements_text(case when json_typeof(p_change -> 'unchanged') = 'array' then p_change -> 'unchanged' end) as u (name)
),
mapped as (
    select c.source_column, c.column_role
    from tidemark.dimension_columns as c
    where c.dimension_name = p_dimension_name
)
select p.name, format('column %s is not mapped to history', p.name), true
from present as p
where p.name not in (select m.source_column from mapped as m)
    and p.name not in ('operation_type', 'cdc_timestamp', 'extracted_at')
    and json_typeof(case when p.name in ('unchanged', 'unchanged_of') then p_change -> p.name end) in ('array', 'object') is not true
    and (p_change ->> 'operation_type') is distinct from 'UNREADABLE'
union all
select m.source_column, format('column %s is missing', m.source_column), true
from mapped as m
where m.source_column not in (select p.name from present as p)
    and (
        m.column_role = 'business key'
        or (
            m.column_role in ('tracked', 'untracked') and m.source_column = any (p_columns)
            and m.source_column not in (select u.name from unchanged as u)
            and (p_change ->> 'operation_type') is distinct from 'DELETE'
        )
    )
    and (p_change ->> 'operation_type') is distinct from 'UNREADABLE'
union all
select u.name, format('column %s did not change, and history does not have its value: "tidemark reconcile --repair" reads it', u.name), true
from unchanged as u
union all
select u.key, format('column %s is no valid UTF-8 at the source: %s', u.key, u.value), false
from json_each_text(case when p_change ->> 'operation_type' = 'UNREADABLE' then p_change -> 'unreadable' end) as u
union all
select
    'operation_type',
    format('operation_type is %s and must be INSERT, UPDATE or DELETE', coalesce(p_change ->> 'operation_type', 'missing')),
    false
where coalesce(p_change ->> 'operation_type', '') not in ('INSERT', 'UPDATE', 'DELETE')
    and json_typeof(p_change -> 'unreadable') is distinct from 'object';
$$;
