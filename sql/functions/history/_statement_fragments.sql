create or replace function tidemark._statement_fragments(
    p_dimension_name text
)
returns json
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The parts of a statement that differ from dimension to dimension, by the name they have in the templates of
-- tidemark._apply_statement and tidemark._converge_statement.
-- at_utc carries times, both ways, between a history that has no zone and the statement, which reckons in instants:
-- a time without zone is taken as if it were UTC, which loses nothing, and the capture is moved to the source's zone.
with dimension as (
    select d.*, a.atttypid = 'timestamp'::regtype as is_local_time
    from tidemark.dimensions as d
    join pg_attribute as a on a.attrelid = d.history_relation and a.attname = 'valid_from'
    where d.dimension_name = p_dimension_name
),
expressions as (
    select e.*, e.column_role = 'business key' as is_key, e.column_role = 'tracked' as is_tracked, a.atttypid as type_id
    from tidemark._column_expressions(p_dimension_name) as e
    cross join dimension as d
    join pg_attribute as a on a.attrelid = d.history_relation and a.attname = e.history_column
)
select json_build_object(
    'cannot_stand', tidemark._standing_condition(p_dimension_name),
    'dimension', quote_literal(max(d.dimension_name)),
    'history', max(d.history_relation::text),
    'captured', case
        when bool_and(d.is_local_time) then format('(c.captured_at at time zone %L) at time zone ''UTC''', max(d.source_time_zone))
        else 'c.captured_at'
    end,
    'at_utc', case when bool_and(d.is_local_time) then ' at time zone ''UTC''' else '' end,
    'read_as', string_agg(format('%I %s', e.source_column, e.read_type), ', ' order by e.ordinal),
    'values', string_agg(e.value_name, ', ' order by e.ordinal),
    'stored_values', string_agg(format('%s as %s', e.stored, e.value_name), ', ' order by e.ordinal),
    'fits', string_agg(e.fits, ' and ' order by e.ordinal),
    'printed', string_agg(format('%s as %I', e.printed, e.source_column), ', ' order by e.ordinal),
    'history_columns', string_agg(format('%I', e.history_column), ', ' order by e.ordinal),
    'compare_change', coalesce(string_agg(e.compare_change, ', ' order by e.ordinal) filter (where e.is_tracked), ''),
    'compare_history', coalesce(string_agg(e.compare_history, ', ' order by e.ordinal) filter (where e.is_tracked), ''),
    'equals_history', coalesce(
        string_agg(format('%s is not distinct from %s', e.compare_change, e.compare_history), ' and ' order by e.ordinal)
            filter (where e.is_tracked), 'true'
    ),
    'values_by_history', string_agg(format('c.%s as %I', e.value_name, e.history_column), ', ' order by e.ordinal),
    'key_values', string_agg(format('c.%s', e.value_name), ', ' order by e.ordinal) filter (where e.is_key),
    'key_names', string_agg(e.value_name, ', ' order by e.ordinal) filter (where e.is_key),
    'key_matches', string_agg(format('h.%I = c.%s', e.history_column, e.value_name), ' and ' order by e.ordinal)
        filter (where e.is_key),
    'key_is_null', string_agg(format('c.%s is null', e.value_name), ' or ' order by e.ordinal) filter (where e.is_key),
    'history_key_pairs', string_agg(
        format('%L, %s', e.history_column, tidemark._key_member(e.type_id, format('h.%I', e.history_column))), ', ' order by e.ordinal
    )
        filter (where e.is_key),
    'key_pairs', string_agg(
        format('%L, %s', e.history_column, tidemark._key_member(e.type_id, format('l.%s', e.value_name))), ', ' order by e.ordinal
    )
        filter (where e.is_key)
)
from expressions as e
cross join dimension as d;
$$;

create or replace function tidemark._standing_condition(
    p_dimension_name text
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- A condition over a change c: its row could not stand in history, for a null that a column does not take or a check constraint.
-- Asked of every change, those that open no version included: whether a change is good must not depend on what it meets, or the
-- order of loading would decide.
with required as (
    select string_agg(format('c.%s is null', e.value_name), ' or ' order by e.ordinal) as condition
    from tidemark._column_expressions(p_dimension_name) as e
    join tidemark.dimensions as d on d.dimension_name = p_dimension_name
    join pg_attribute as a on a.attrelid = d.history_relation and a.attname = e.history_column
    where a.attnotnull
),
rules as (
    select string_agg(format('not coalesce((%s), true)', r.expression), ' or ' order by r.rule_name) as condition
    from tidemark._history_rules(p_dimension_name) as r
),
named as (
    select string_agg(format('c.%s as %I', e.value_name, e.history_column), ', ' order by e.ordinal) as columns
    from tidemark._column_expressions(p_dimension_name) as e
)
select format(
    '(%s or %s)',
    coalesce(q.condition, 'false'),
    case when r.condition is null then 'false' else format('exists (select from (select %s) as h where %s)', n.columns, r.condition) end
)
from required as q, rules as r, named as n;
$$;
