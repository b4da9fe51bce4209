create or replace function tidemark._history_rules(
    p_dimension_name text
)
returns table (
    rule_name text,
    source_column text,
    expression text
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The rules that a history table makes for its mapped columns, beyond their types: one row for each check constraint.
-- A rule that speaks of Tidemark's own columns too (valid_from, ...) is no rule for a change.
select
    r.conname, case when cardinality(r.conkey) = 1 then min(c.source_column) end, pg_get_expr(r.conbin, r.conrelid)
from tidemark.dimensions as d
join pg_constraint as r on r.conrelid = d.history_relation and r.contype = 'c'
cross join unnest(r.conkey) as k (attnum)
-- "offset 0": each column by its index; else the planner may read all columns of the database.
cross join lateral (select a.attname from pg_attribute as a where a.attrelid = r.conrelid and a.attnum = k.attnum offset 0) as a
left join tidemark.dimension_columns as c
    on c.dimension_name = d.dimension_name and c.history_column = a.attname
    and c.column_role in ('business key', 'tracked', 'untracked')
where d.dimension_name = p_dimension_name
group by r.oid, r.conname, r.conkey, r.conbin, r.conrelid
having count(*) = count(c.source_column);
$$;
