-- What a source table is, from its catalog: one row; none where there is no such relation. Everything is a name or a type: no value.
-- $1 schema, $2 table. Run it with search_path = pg_catalog, so that every type outside it is printed with its schema.
-- type is what history can hold of a column: a domain is looked through to the type and modifier beneath it, inside an array too.
-- kind is pg_type.typtype of that type (of its element, for an array); nested is an array of a domain over an array.
with recursive relation as (
    select c.oid, c.relkind, n.nspname, c.relname
    from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = $1::text and c.relname = $2::text and c.relkind in ('r', 'p', 'v', 'm', 'f')
),
step as (
    select a.attnum, a.atttypid as type_id, a.atttypmod as modifier, false as is_array, 1 as depth
    from relation as r
    join pg_catalog.pg_attribute as a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
    union all
    select
        s.attnum,
        case when t.typtype = 'd' then t.typbasetype else t.typelem end,
        case when t.typtype = 'd' then t.typtypmod else s.modifier end,
        s.is_array or t.typtype <> 'd',
        s.depth + 1
    from step as s
    join pg_catalog.pg_type as t on t.oid = s.type_id
    left join pg_catalog.pg_type as element on element.oid = t.typelem and element.typarray = t.oid
    where t.typtype = 'd' or (element.oid is not null and not s.is_array)
),
resolved as (
    select distinct on (s.attnum) s.attnum, s.type_id, s.modifier, s.is_array
    from step as s
    order by s.attnum, s.depth desc
),
described as (
    select
        a.attnum,
        json_build_object(
            'name', a.attname,
            'declared', format_type(a.atttypid, a.atttypmod),
            'type', format_type(r.type_id, r.modifier) || case when r.is_array then '[]' else '' end,
            'kind', case when r.is_array and element.oid is not null then 'nested' else t.typtype::text end,
            'type_schema', n.nspname,
            'type_name', t.typname,
            'labels', (select json_agg(e.enumlabel order by e.enumsortorder) from pg_catalog.pg_enum as e where e.enumtypid = t.oid),
            'is_not_null', a.attnotnull,
            'is_generated', a.attgenerated <> '',
            'is_deterministic', coalesce(l.collisdeterministic, true),
            'comment', col_description(a.attrelid, a.attnum)
        ) as facts
    from resolved as r
    join pg_catalog.pg_attribute as a on a.attrelid = (select c.oid from relation as c) and a.attnum = r.attnum
    join pg_catalog.pg_type as t on t.oid = r.type_id
    join pg_catalog.pg_namespace as n on n.oid = t.typnamespace
    left join pg_catalog.pg_type as element on element.oid = t.typelem and element.typarray = t.oid
    left join pg_catalog.pg_collation as l on l.oid = a.attcollation
),
keys as (
    select
        i.indisprimary,
        i.indexrelid,
        (
            select json_agg(a.attname order by k.place)
            from unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)
            join pg_catalog.pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.attnum
            where k.place <= i.indnkeyatts
        ) as columns
    from pg_catalog.pg_index as i
    join relation as r on r.oid = i.indrelid
    where i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
)
select
    r.nspname::text as table_schema,
    r.relname::text as table_name,
    r.relkind::text as relation_kind,
    obj_description(r.oid, 'pg_class') as table_comment,
    r.relkind = 'r' and exists (select from pg_catalog.pg_inherits as i where i.inhparent = r.oid) as has_heirs,
    (select coalesce(json_agg(d.facts order by d.attnum), '[]') from described as d)::text as table_columns,
    (
        select coalesce(json_agg(json_build_object('is_primary', k.indisprimary, 'columns', k.columns)
            order by k.indisprimary desc, k.indexrelid), '[]')
        from keys as k
    )::text as unique_keys,
    (select array_agg(w.word::text) from pg_catalog.pg_get_keywords() as w where w.catcode <> 'U') as keywords
from relation as r;
