-- A condition over a change c: its row could not stand in history, for a null that a column does not take or a check constraint.
-- Asked of every change, those that open no version included: whether a change is good must not depend on what it meets, or the
-- order of loading would decide.
create or replace function tidemark._standing_condition(
    p_dimension_name text
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
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
