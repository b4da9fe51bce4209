-- Who keeps a table from being read. $1 schema, $2 table. One row; none where nobody does.
-- Reading conflicts with ACCESS EXCLUSIVE alone: with who holds it, and with who waits for it, because who comes later waits behind. Then
-- whoever holds any lock on that relation is the one to wait for, and "waiting" is who stands between.
-- The lock may be on what is read with the table: its partitions, tables that inherit from it, what a view selects from, and indexes.
-- relation: what is locked; holder, waiting: a session or a prepared transaction, in words; query: what the holder runs or ran last,
-- without the values in it, which may be anybody's; remedy: what ends it. A role without pg_read_all_stats is told less of others.
-- Nothing here waits for a lock: catalogs alone are read, and no function that opens the table is called.
with recursive involved (oid) as (
    select c.oid
    from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = $1::text and c.relname = $2::text
    union
    select m.oid
    from involved as v
    cross join lateral (
        select i.inhrelid from pg_catalog.pg_inherits as i where i.inhparent = v.oid
        union all
        select i.indexrelid from pg_catalog.pg_index as i where i.indrelid = v.oid
        union all
        select d.refobjid
        from pg_catalog.pg_rewrite as r
        join pg_catalog.pg_depend as d on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = r.oid
            and d.refclassid = 'pg_catalog.pg_class'::regclass
        where r.ev_class = v.oid
    ) as m (oid)
),
held as (
    select
        l.relation, l.granted, l.mode = 'AccessExclusiveLock' as is_exclusive, l.waitstart,
        coalesce(a.xact_start, x.prepared) as since,
        case
            when x.gid is not null then format('prepared transaction %L of user %s, since %s', x.gid, x.owner, x.prepared)
            else format(
                'process %s (%s)', l.pid,
                concat_ws(', ', nullif(a.application_name, ''), 'user ' || a.usename, a.state, 'since ' || a.xact_start)
            )
        end as who,
        left(regexp_replace(regexp_replace(
            a.query, $$'(?:[^'\\]|''|\\.)*(?:'|$)|\$\w*\$.*|\m\d[\d.]*\M$$, '?', 'g'
        ), '\s+', ' ', 'g'), 100) as query,
        case
            when x.gid is not null then format('rollback prepared %L', x.gid)
            else format('select pg_terminate_backend(%s)', l.pid)
        end as remedy
    from pg_catalog.pg_locks as l
    left join pg_catalog.pg_stat_activity as a on a.pid = l.pid
    left join pg_catalog.pg_locks as t on l.pid is null and t.pid is null and t.virtualtransaction = l.virtualtransaction
        and t.locktype = 'transactionid'
    left join pg_catalog.pg_prepared_xacts as x on x.transaction = t.transactionid
    where l.locktype = 'relation'
        and l.database = (select d.oid from pg_catalog.pg_database as d where d.datname = current_database())
        and l.relation in (select v.oid from involved as v)
        and l.pid is distinct from pg_backend_pid()
)
select format('%I.%I', n.nspname, c.relname) as relation, h.who as holder, w.who as waiting, h.query, h.remedy
from held as h
join pg_catalog.pg_class as c on c.oid = h.relation
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
left join lateral (
    select w.who
    from held as w
    where w.relation = h.relation and w.is_exclusive and not w.granted and not h.is_exclusive
    order by w.waitstart
    limit 1
) as w on true
where h.granted and (h.is_exclusive or w.who is not null)
order by h.is_exclusive desc, h.since
limit 1;
