-- Of tables that are to be published: why one cannot be, or must not. A row for each.
-- $1 json array of {"schema", "name", "keys"}: keys are the columns of its business key.
-- fault: missing; kind: it is no table; unlogged; identity: it has no replica identity, so that updates and deletes of its application
-- would fail once it is published; key: its replica identity lacks columns of the business key, so that the log does not say which row
-- was deleted; null where it can be published. remedy: the statements that mend an identity. only: the table as it is published, without
-- those that inherit from it. Of a partitioned table the identity of each partition counts.
with wanted as (
    select w.*, c.oid, c.relkind, c.relpersistence, format('%I.%I', w.schema, w.name) as shown
    from json_to_recordset($1::text::json) as w (schema text, name text, keys json)
    left join pg_catalog.pg_namespace as n on n.nspname = w.schema
    left join pg_catalog.pg_class as c on c.relnamespace = n.oid and c.relname = w.name
),
leaf as (
    select w.schema, w.name, w.keys, l.oid, l.relreplident, i.indkey::smallint[] as identity_columns
    from wanted as w
    join pg_catalog.pg_class as l
        on l.relkind = 'r' and (l.oid = w.oid or l.oid in (select t.relid from pg_partition_tree(w.oid) as t))
    left join pg_catalog.pg_index as i
        on i.indrelid = l.oid and (l.relreplident = 'd' and i.indisprimary or l.relreplident = 'i' and i.indisreplident)
),
judged as (
    select l.schema, l.name, l.oid, l.relreplident <> 'f' and l.identity_columns is null as lacks_identity,
        l.relreplident <> 'f' and exists (
            select
            from json_array_elements_text(l.keys) as k (name)
            join pg_catalog.pg_attribute as a on a.attrelid = l.oid and a.attname = k.name
            where a.attnum <> all (coalesce(l.identity_columns, '{}'))
        ) as lacks_key
    from leaf as l
)
select format('%s.%s', w.schema, w.name) as name, case when w.relkind = 'r' then 'only ' else '' end || w.shown as only, case
    when w.oid is null then 'missing'
    when w.relkind not in ('r', 'p') then 'kind'
    when w.relpersistence <> 'p' then 'unlogged'
    when bool_or(j.lacks_identity) then 'identity'
    when bool_or(j.lacks_key) then 'key'
end as fault, string_agg(format('alter table %s replica identity full', j.oid::regclass), '; ') filter (
    where j.lacks_identity or j.lacks_key
) as remedy
from wanted as w
left join judged as j on (j.schema, j.name) = (w.schema, w.name)
group by w.schema, w.name, w.oid, w.relkind, w.relpersistence, w.shown
order by w.schema, w.name;
