create or replace function tidemark.partition_plan(
    p_dimension_name text,
    p_partitions integer
)
returns table (
    history_table text,
    partitions_now integer,
    versions_estimate bigint,
    table_bytes bigint,
    obstacles text [],
    views text [],
    publications text [],
    begun_partitions integer
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- What it takes to make a history partitioned by hash of its key, into p_partitions, or plain (0), by tidemark.begin_partitioning: its
-- partitions now, about how large it is, what stands in the way, which views of somebody's own are made anew, which publications take the
-- new table in the place of the old one, and into how many partitions a copy was begun, if one was. Writes nothing.
with history as (
    select d.dimension_name, d.history_relation, c.*
    from tidemark.dimensions as d
    join pg_class as c on c.oid = d.history_relation
    where d.dimension_name = p_dimension_name
),
part as (
    select p.part::oid as oid from history as h cross join lateral tidemark._history_parts(h.history_relation) as p (part)
)
select h.history_relation::text, (select count(*)::integer from pg_inherits as i where i.inhparent = h.history_relation),
    (select sum(greatest(c.reltuples, 0))::bigint from part as p join pg_class as c on c.oid = p.oid),
    (select sum(pg_total_relation_size(p.oid))::bigint from part as p),
    array(select o.obstacle from tidemark._partition_obstacles(p_dimension_name, p_partitions) as o (obstacle) order by 1),
    array(select v.view::regclass::text from tidemark._dependent_views(h.history_relation) as v order by 1),
    array(
        select u.pubname::text
        from pg_publication_rel as r
        join pg_publication as u on u.oid = r.prpubid
        where r.prrelid = h.history_relation
        order by 1
    ),
    (select b.partitions from tidemark.partitionings as b where b.dimension_name = p_dimension_name)
from history as h;
$$;

create or replace function tidemark._bound_to(
    p_history_relation regclass
)
returns table (
    class_id oid,
    object_id oid
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- What goes with a history table when it is dropped: itself, its partitions, the types of their rows, and the functions that
-- tidemark.compile_dimension wrote which take or return these.
with part as (
    select p_history_relation::oid as oid
    union
    select p.part from tidemark._history_parts(p_history_relation) as p (part)
),
row_type as (
    select t.oid
    from part as p
    join pg_class as c on c.oid = p.oid
    join pg_type as r on r.oid = c.reltype
    cross join lateral (values (r.oid), (r.typarray)) as t (oid)
)
select 'pg_class'::regclass::oid, p.oid from part as p
union all
select 'pg_type'::regclass, t.oid from row_type as t
union all
select distinct 'pg_proc'::regclass::oid, f.oid
from row_type as t
join pg_depend as x on x.refclassid = 'pg_type'::regclass and x.refobjid = t.oid and x.classid = 'pg_proc'::regclass
join pg_proc as f on f.oid = x.objid
    and (f.pronamespace = 'tidemark'::regnamespace or f.prosrc like '%Written by tidemark.compile_dimension.%');
$$;

create or replace function tidemark._dependent_views(
    p_history_relation regclass
)
returns table (
    view oid,
    depth integer
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The views that show a history, or what is bound to it, and the views upon those, each with how far it is from the history at most; not
-- those that tidemark._create_versions_view makes.
with recursive dependent as (
    select w.ev_class as view, 1 as depth
    from tidemark._bound_to(p_history_relation) as b
    join pg_depend as x on x.refclassid = b.class_id and x.refobjid = b.object_id and x.classid = 'pg_rewrite'::regclass
    join pg_rewrite as w on w.oid = x.objid and w.ev_class <> b.object_id
    where w.ev_class not in (select v.view from tidemark._views_of_all() as v (view))
    union
    select w.ev_class, d.depth + 1
    from dependent as d
    join pg_depend as x on x.refobjid = d.view and x.refclassid = 'pg_class'::regclass and x.classid = 'pg_rewrite'::regclass
    join pg_rewrite as w on w.oid = x.objid and w.ev_class <> d.view
)
select d.view, max(d.depth) from dependent as d group by d.view;
$$;

create or replace function tidemark._views_of_all()
returns setof oid
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The views that tidemark._create_versions_view makes, which show every history.
select c.oid from pg_class as c
where c.relnamespace = 'tidemark'::regnamespace and c.relname in (select t.view_name from tidemark._version_templates() as t);
$$;

create or replace function tidemark._partition_obstacles(
    p_dimension_name text,
    p_partitions integer
)
returns setof text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Why a history cannot get partitions, or lose them, as it stands, in words: what would be lost with the table that is there, or broken.
with history as (
    select d.dimension_name, d.history_relation, c.*
    from tidemark.dimensions as d
    join pg_class as c on c.oid = d.history_relation
    where d.dimension_name = p_dimension_name
),
bound as materialized (
    select b.* from history as h cross join lateral tidemark._bound_to(h.history_relation) as b
),
view as materialized (
    select v.view from history as h cross join lateral tidemark._dependent_views(h.history_relation) as v
),
key_column as (
    select a.attnum
    from history as h
    join tidemark.dimension_columns as c on c.dimension_name = h.dimension_name and c.column_role = 'business key'
    join pg_attribute as a on a.attrelid = h.history_relation and a.attname = c.history_column
),
dependent as (
    select distinct x.classid, x.objid, t.*
    from (
        select b.* from bound as b
        union all
        select 'pg_class'::regclass, v.view from view as v
        union all
        select 'pg_type'::regclass, t.oid
        from view as v
        join pg_class as c on c.oid = v.view
        join pg_type as r on r.oid = c.reltype
        cross join lateral (values (r.oid), (r.typarray)) as t (oid)
    ) as b
    join pg_depend as x on x.refclassid = b.class_id and x.refobjid = b.object_id and x.deptype in ('n', 'a')
    left join lateral (
        select r.conrelid, r.confrelid from pg_constraint as r where r.oid = x.objid and x.classid = 'pg_constraint'::regclass
    ) as t on true
    where (x.classid, x.objid) not in (select o.class_id, o.object_id from bound as o)
)
select format('a history has from 2 to 1024 partitions, or none (0), and not %s', coalesce(p_partitions::text, 'null'))
where p_partitions is null or p_partitions not between 0 and 1024 or p_partitions = 1
union all
select format('it belongs to %s: only who is a member of that role may', pg_get_userbyid(h.relowner))
from history as h
where not pg_has_role(h.relowner, 'usage')
union all
select format('this role may create no schema in database %I', current_database())
where not has_database_privilege(current_database(), 'create')
union all
select f.fault from tidemark.dimension_faults(p_dimension_name) as f
union all
select format('Citus distributes it by %s: its shards are its parts', tidemark._distributed_by(p_dimension_name))
where tidemark._distributed_by(p_dimension_name) is not null
union all
select format('PostgreSQL cannot hash key column %I, of type %s', a.attname, format_type(a.atttypid, a.atttypmod))
from history as h
join key_column as k on true
join pg_attribute as a on a.attrelid = h.oid and a.attnum = k.attnum
where p_partitions > 0 and not tidemark._is_hashable(a.atttypid)
union all
select format('%s has the name that a partition or its sequence would have', c.oid::regclass)
from history as h
cross join lateral (
    select tidemark._fit_name(h.relname, '_p' || n.number) from generate_series(0, p_partitions - 1) as n (number)
    union all
    select tidemark._fit_name(h.relname, '_surrogate_key_seq')
) as n (name)
join pg_class as c on c.relnamespace = h.relnamespace and c.relname = n.name
where p_partitions > 0 and c.oid not in (select b.object_id from bound as b)
    and not exists (
        select from pg_depend as x where x.objid = c.oid and x.classid = 'pg_class'::regclass and x.refobjid = h.oid and c.relkind = 'S'
    )
union all
select format(
    'so many partitions take about %s locks at once when they are made or dropped, and the server keeps %s: '
    'max_locks_per_transaction must be %s there, or more', l.needed, l.kept, ceil(l.needed::numeric / l.transactions)
)
from history as h
cross join tidemark._partition_locks(h.history_relation, p_partitions) as l
where l.needed > l.kept
union all
select case
    when d.conrelid is not null then format('foreign key %s', pg_describe_object(d.classid, d.objid, 0))
    when d.classid = 'pg_policy'::regclass then format('row-level security: %s', pg_describe_object(d.classid, d.objid, 0))
    else pg_describe_object(d.classid, d.objid, 0)
end
from dependent as d
where case d.classid
    when 'pg_rewrite'::regclass then not exists (
        select
        from pg_rewrite as w
        join view as v on v.view = w.ev_class
        where w.oid = d.objid and w.rulename = '_RETURN'
        union all
        select
        from pg_rewrite as w
        where w.oid = d.objid
            and w.ev_class in (select v.view from tidemark._views_of_all() as v (view))
    )
    when 'pg_constraint'::regclass then d.conrelid not in (select b.object_id from bound as b)
        or d.confrelid in (select b.object_id from bound as b)
    when 'pg_attrdef'::regclass then not exists (
        select from pg_attrdef as f join bound as b on b.object_id = f.adrelid where f.oid = d.objid
    )
    when 'pg_class'::regclass then exists (select from pg_class as c where c.oid = d.objid and c.relkind not in ('i', 'I', 'S', 't', 'v'))
    when 'pg_trigger'::regclass then exists (
        select
        from pg_trigger as t
        where t.oid = d.objid and not t.tgisinternal and t.tgparentid = 0 and t.tgfoid <> 'tidemark._list_written()'::regprocedure
    )
    when 'pg_publication_rel'::regclass then exists (
        select
        from pg_publication_rel as r
        join pg_publication as u on u.oid = r.prpubid
        where r.oid = d.objid and (
            not pg_has_role(u.pubowner, 'usage') or r.prrelid <> (select w.history_relation from history as w)
        )
    )
    when 'pg_statistic_ext'::regclass then false
    else true
end
union all
select case
    when c.relkind = 'm' then format('materialized view %s', c.oid::regclass)
    when not pg_has_role(c.relowner, 'usage') then format('view %s, which belongs to %s', c.oid::regclass, pg_get_userbyid(c.relowner))
    else format('view %s, which has triggers or defaults', c.oid::regclass)
end
from view as v
join pg_class as c on c.oid = v.view
where c.relkind <> 'v' or not pg_has_role(c.relowner, 'usage')
    or exists (select from pg_trigger as t where t.tgrelid = c.oid)
    or exists (select from pg_attrdef as f where f.adrelid = c.oid)
union all
select format('%s inherits from %s', i.inhrelid::regclass, i.inhparent::regclass)
from pg_inherits as i
where i.inhrelid = (select h.oid from history as h)
union all
select format('publication %I tells of partitions under their own names: set (publish_via_partition_root = true) there', u.pubname)
from history as h
join pg_publication_rel as r on r.prrelid = h.oid
join pg_publication as u on u.oid = r.prpubid
where p_partitions > 0 and not u.pubviaroot
union all
select 'row-level security is on' from history as h where h.relrowsecurity
union all
select format('%s has a replica identity of its own', c.oid::regclass)
from bound as b
join pg_class as c on c.oid = b.object_id and c.relkind in ('r', 'p') and c.relreplident <> 'd'
where b.class_id = 'pg_class'::regclass
union all
select format('column %I is an identity column', a.attname)
from history as h
join pg_attribute as a on a.attrelid = h.oid and a.attidentity <> '' and a.attname <> 'surrogate_key'
union all
select format('constraint %I was never validated', r.conname)
from history as h
join pg_constraint as r on r.conrelid = h.oid and not r.convalidated and r.contype in ('c', 'f')
union all
select format('%s is unique over columns without the key, which one with partitions cannot be', x.indexrelid::regclass)
from history as h
join pg_index as x on x.indrelid = h.oid and x.indisunique and x.indisvalid
where p_partitions > 0 and not (
    x.indisprimary and (select a.attnum from pg_attribute as a where a.attrelid = h.oid and a.attname = 'surrogate_key')
        = any (x.indkey::smallint [])
) and exists (select from key_column as k where k.attnum <> all ((x.indkey::smallint [])[0:x.indnkeyatts - 1]))
union all
select format('%s is an index of one partition', x.indexrelid::regclass)
from history as h
join bound as b on b.class_id = 'pg_class'::regclass and b.object_id <> h.oid
join pg_index as x on x.indrelid = b.object_id and not x.indisexclusion
where not exists (select from pg_inherits as i where i.inhrelid = x.indexrelid);
$$;

create or replace function tidemark._is_hashable(
    p_type oid
)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Whether PostgreSQL can part a table by hash of a column of this type.
begin
    execute format('select hash_record_extended(row(null::%s), 0)', format_type(p_type, null));
    return true;
exception
    when undefined_function then
        return false;
end;
$$;

create or replace function tidemark._partition_locks(
    p_history_relation regclass,
    p_partitions integer
)
returns table (
    needed bigint,
    kept bigint,
    transactions bigint
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- How many locks tidemark.finish_partitioning takes, about, and took on the way back: DROP locks each object of each partition, triggers of
-- the copy among them, and of what is moved each table and index. And how many the server has room for, as its manual reckons.
select greatest(o.parts * o.dropped + p_partitions * o.moved, p_partitions * o.dropped), s.transactions * s.locks, s.transactions
from (
    select count(*) as parts, max(
        10
        + 2 * (select count(*) from pg_index as x where x.indrelid = h.part)
        + (select count(*) from pg_constraint as r where r.conrelid = h.part)
        + (select count(*) from pg_attrdef as f where f.adrelid = h.part)
    ) as dropped, 3 + (select count(*) from pg_index as x where x.indrelid = p_history_relation) as moved
    from tidemark._history_parts(p_history_relation) as h (part)
) as o
cross join (
    select current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint as transactions,
        current_setting('max_locks_per_transaction')::bigint as locks
) as s;
$$;
