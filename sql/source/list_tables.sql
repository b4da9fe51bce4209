-- Finds the tables of the source that are to be registered. $1 those that are asked for, $2 those to leave out: json arrays of
-- {"schema", "table"}, where * stands for any letters. Of nothing in $1, all are asked for. A row for each that was found: schema,
-- table, state, and the reason why one is left out. A name without * is chosen as it is, whatever there is of it; a pattern chooses
-- tables alone, none of the system, of an extension, of Tidemark, and none that is temporary, and no partition. What is chosen with a
-- partitioned table above it is left out: that is read whole. A pattern that finds nothing comes back as it was given, with the state
-- "unmatched".
with said as (
    select s.schema, s.table, s.place, s.is_asked,
        s.is_asked and s.schema || s.table not like '%*%' as is_name,
        replace(regexp_replace(s.schema, '([\\%_])', '\\\1', 'g'), '*', '%') as schema_pattern,
        replace(regexp_replace(s.table, '([\\%_])', '\\\1', 'g'), '*', '%') as table_pattern
    from (
        select a.schema, a.table, min(a.place) as place, true as is_asked
        from rows from (json_to_recordset($1::text::json) as (schema text, "table" text)) with ordinality as a (schema, "table", place)
        group by a.schema, a.table
        union all
        select e.schema, e.table, null, false
        from json_to_recordset($2::text::json) as e (schema text, "table" text)
    ) as s
),
relation as (
    select n.nspname::text as schema, c.relname::text as "table", c.relkind as kind, array(
        select format('%s.%s', an.nspname, ac.relname)
        from pg_catalog.pg_partition_ancestors(c.oid) with ordinality as a (oid, place)
        join pg_catalog.pg_class as ac on ac.oid = a.oid
        join pg_catalog.pg_namespace as an on an.oid = ac.relnamespace
        where c.relispartition and a.oid <> c.oid
        order by a.place
    ) as partition_of
    from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f')
        and c.relpersistence <> 't'
        and n.nspname !~ '^pg_'
        and n.nspname not in ('information_schema', 'tidemark')
        and (n.nspname, c.relname) <> ('public', 'tidemark_demo_migrations')
        and not exists (
            select
            from pg_catalog.pg_depend as d
            where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
        )
),
matched as (
    select r.schema, r.table, s.schema as said_schema, s.table as said_table, s.is_asked
    from relation as r
    join said as s on r.schema like s.schema_pattern and r.table like s.table_pattern and not s.is_name
),
candidate as (
    select s.schema, s.table, s.place, r.kind, coalesce(r.partition_of, '{}') as partition_of
    from said as s
    left join relation as r on r.schema = s.schema and r.table = s.table
    where s.is_name and not exists (
        select from said as e where not e.is_asked and s.schema like e.schema_pattern and s.table like e.table_pattern
    )
    union all
    select r.schema, r.table, null, r.kind, r.partition_of
    from relation as r
    where (
            not exists (select from said as s where s.is_asked)
            or exists (select from matched as m where m.is_asked and m.schema = r.schema and m.table = r.table)
        )
        and not exists (select from matched as m where not m.is_asked and m.schema = r.schema and m.table = r.table)
        and not exists (select from said as s where s.is_name and s.schema = r.schema and s.table = r.table)
),
reasoned as (
    select c.schema, c.table, c.place, case
        when above.name is not null then format('a partition of %s, which is read whole', above.name)
        when c.place is not null then null
        when c.partition_of <> '{}' then format('a partition of %s: add that', c.partition_of[1])
        when c.kind not in ('r', 'p') then 'no table: name it, with the --key that its rows have'
    end as reason
    from candidate as c
    left join lateral (
        select p.name
        from unnest(c.partition_of) with ordinality as p (name, place)
        join candidate as chosen on format('%s.%s', chosen.schema, chosen.table) = p.name
        where chosen.place is not null or chosen.partition_of = '{}'
        order by p.place
        limit 1
    ) as above on true
)
select f.schema, f.table, f.state, f.reason
from (
    select r.schema, r.table, r.place, case when r.reason is null then 'chosen' else 'left out' end as state, r.reason
    from reasoned as r
    union all
    select s.schema, s.table, s.place, 'unmatched', null
    from said as s
    where s.is_asked and not s.is_name
        and not exists (select from matched as m where m.is_asked and m.said_schema = s.schema and m.said_table = s.table)
) as f
order by f.state = 'unmatched', f.place, f.schema collate "C", f.table collate "C";
