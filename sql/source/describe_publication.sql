-- Of tables that are to be published: why one cannot be, or must not. A row for each.
-- $1 json array of {"schema", "name", "keys", "columns"}: the columns of its business key, and all that are captured.
-- fault, null where it can be published:
--   missing; kind: it is no table; unlogged;
--   taken: a column is called as lines of the log call what they leave out; generated: a column is, which the log does not hold;
--   apart: nothing keeps the business key unique at every moment. Where a constraint is deferrable two rows may have one key for a while,
--     and what the log deletes may be either;
--   identity: it has no replica identity, so that updates and deletes of its application would fail once it is published (a constraint
--     that is deferrable is none);
--   key: its replica identity lacks columns of the business key, so that the log does not say which row was deleted.
-- remedy: the statements that mend it. only: the table as it is published, without those that inherit from it. Of a partitioned table the
-- identity of each partition counts, and what keeps the whole unique.
with wanted as (
    select w.*, c.oid, c.relkind, c.relpersistence, format('%I.%I', w.schema, w.name) as shown,
        not exists (
            select
            from pg_catalog.pg_index as i
            where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null and (
                select bool_and(coalesce(a.attname in (select * from json_array_elements_text(w.keys)), false))
                from unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)
                left join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum = k.attnum
                where k.place <= i.indnkeyatts
            )
        ) as may_repeat,
        exists (
            select
            from pg_catalog.pg_attribute as a
            where a.attrelid = c.oid and a.attgenerated <> '' and a.attname in (select * from json_array_elements_text(w.columns))
        ) as has_generated,
        w.columns::jsonb ?| array['unchanged', 'unchanged_of'] as has_taken,
        (select string_agg(format('%I', k.name), ', ') from json_array_elements_text(w.keys) as k (name)) as key_list
    from json_to_recordset($1::text::json) as w (schema text, name text, keys json, columns json)
    left join pg_catalog.pg_namespace as n on n.nspname = w.schema
    left join pg_catalog.pg_class as c on c.relnamespace = n.oid and c.relname = w.name
),
leaf as (
    select w.schema, w.name, w.keys, l.oid, l.relreplident, i.indkey::smallint[] as identity_columns
    from wanted as w
    join pg_catalog.pg_class as l
        on l.relkind = 'r' and (l.oid = w.oid or l.oid in (select t.relid from pg_partition_tree(w.oid) as t))
    left join pg_catalog.pg_index as i
        on i.indrelid = l.oid and (l.relreplident = 'd' and i.indisprimary and i.indimmediate or l.relreplident = 'i' and i.indisreplident)
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
    when w.has_taken then 'taken'
    when w.has_generated then 'generated'
    when w.may_repeat then 'apart'
    when bool_or(j.lacks_identity) then 'identity'
    when bool_or(j.lacks_key) then 'key'
end as fault, case when not (w.has_taken or w.has_generated) then nullif(concat_ws(
    '; ',
    case when w.may_repeat and w.relkind in ('r', 'p') then format('alter table %s add unique (%s)', w.oid::regclass, w.key_list) end,
    string_agg(format('alter table %s replica identity full', j.oid::regclass), '; ') filter (where j.lacks_identity or j.lacks_key)
), '') end as remedy
from wanted as w
left join judged as j on (j.schema, j.name) = (w.schema, w.name)
group by w.schema, w.name, w.oid, w.relkind, w.relpersistence, w.shown, w.has_taken, w.has_generated, w.may_repeat, w.key_list
order by w.schema, w.name;
