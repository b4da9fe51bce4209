-- Which tables and views of the source could be registered: none of the system, of an extension, of Tidemark, and none that is temporary.
-- One row each: schema, table, kind (pg_class.relkind), and partition_of, a JSON array of {"schema", "table"}: the partitioned tables above
-- a partition, the nearest first.
select
    n.nspname as schema,
    c.relname as "table",
    c.relkind as kind,
    (
        select coalesce(json_agg(json_build_object('schema', an.nspname, 'table', ac.relname) order by a.place), '[]')
        from pg_catalog.pg_partition_ancestors(c.oid) with ordinality as a (oid, place)
        join pg_catalog.pg_class as ac on ac.oid = a.oid
        join pg_catalog.pg_namespace as an on an.oid = ac.relnamespace
        where c.relispartition and a.oid <> c.oid
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
order by n.nspname, c.relname;
