create or replace function tidemark.open_partitionings()
returns table (
    dimension_name text,
    partitions integer,
    partitions_now integer,
    begun_at timestamptz,
    begun_by text,
    copied_bytes bigint,
    is_running boolean
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Histories that are being made partitioned, or plain: under way, or cut off. Whoever is at one holds an advisory lock of its name.
select p.dimension_name, p.partitions,
    (select count(*)::integer from pg_inherits as i where i.inhparent = p.history_relation),
    p.begun_at, p.begun_by,
    (select coalesce(sum(pg_total_relation_size(h.part)), 0)::bigint from tidemark._history_parts(p.copy_relation) as h (part)),
    exists (
        select
        from pg_locks as l
        where l.locktype = 'advisory' and l.granted and l.database = (
                select b.oid from pg_database as b where b.datname = current_database()
            )
            and l.classid::bigint << 32 | l.objid::bigint = hashtextextended('tidemark.partitioning ' || p.dimension_name, 0)
    )
from tidemark.partitionings as p
order by p.dimension_name;
$$;

create or replace function tidemark._history_users(
    p_dimension_name text
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Which sessions use a history now, in words: they have a lock on it, on a view of it, or hold the dimension.
with used as (
    select b.object_id as oid
    from tidemark.dimensions as d
    cross join lateral tidemark._bound_to(d.history_relation) as b
    where d.dimension_name = p_dimension_name
    union
    select v.view
    from tidemark.dimensions as d
    cross join lateral tidemark._dependent_views(d.history_relation) as v
    where d.dimension_name = p_dimension_name
    union
    select v.view from tidemark._views_of_all() as v (view)
    union
    select 'tidemark.dimensions'::regclass
)
select string_agg(distinct format('process %s (%s)', l.pid, coalesce(nullif(a.application_name, ''), a.usename, 'unknown')), ', ')
from pg_locks as l
left join pg_stat_activity as a on a.pid = l.pid
where l.granted and l.pid <> pg_backend_pid()
    and l.database = (select b.oid from pg_database as b where b.datname = current_database())
    and (
        l.locktype = 'relation' and l.relation in (select u.oid from used as u)
        or l.locktype = 'advisory'
        and l.classid::bigint << 32 | l.objid::bigint = hashtextextended('tidemark.dimension ' || p_dimension_name, 0)
    );
$$;
