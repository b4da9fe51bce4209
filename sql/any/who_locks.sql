-- Who keeps a table from being read, or written to. $1 the table, as SQL names it, $2 'read' or 'write'. One row; none where nobody does.
-- Reading conflicts with ACCESS EXCLUSIVE alone, writing with every mode from SHARE up: with who holds it, and with who waits for it,
-- because who comes later waits behind. Then the one to wait for is whoever blocks that one, and "waiting" is who stands between.
-- The lock may be on what is read with the table: its partitions, tables that inherit from it, what a view selects from, and indexes.
-- relation: what is locked; holder, waiting: a session or a prepared transaction, in words; query: what the holder runs or ran last,
-- without the values in it, which may be anybody's; remedy: what ends it. A role without pg_read_all_stats is told less of others.
-- Nothing here waits for a lock: catalogs alone are read, and no function that opens the table is called.
with recursive involved (oid) as (
    -- A name is looked up as it stands: to_regclass asks for a right on the schema, which who may only call functions does not have.
    select c.oid
    from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where n.nspname = (parse_ident($1::text))[1] and c.relname = (parse_ident($1::text))[2]
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
lock as (
    select
        l.*,
        l.mode = 'AccessExclusiveLock'
            or $2::text = 'write' and l.mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock') as is_in_the_way
    from pg_catalog.pg_locks as l
    where l.locktype = 'relation'
        and l.database = (select d.oid from pg_catalog.pg_database as d where d.datname = current_database())
        and l.relation in (select v.oid from involved as v)
        and l.pid is distinct from pg_backend_pid()
),
held as (
    select
        l.*, coalesce(a.xact_start, x.prepared) as since,
        case
            when x.gid is not null then format('prepared transaction %L of user %s, since %s', x.gid, x.owner, x.prepared)
            else format(
                'process %s (%s)', l.pid,
                concat_ws(', ', nullif(a.application_name, ''), 'user ' || a.usename, a.state, 'since ' || a.xact_start)
            )
        end as who,
        left(regexp_replace(regexp_replace(
            nullif(a.query, '<insufficient privilege>'), $$'(?:[^'\\]|''|\\.)*(?:'|$)|\$\w*\$.*|\m\d[\d.]*\M$$, '?', 'g'
        ), '\s+', ' ', 'g'), 100) as query,
        case
            when x.gid is not null then format('rollback prepared %L', x.gid)
            else format('select pg_terminate_backend(%s)', l.pid)
        end as remedy
    from lock as l
    left join pg_catalog.pg_stat_activity as a on a.pid = l.pid
    left join pg_catalog.pg_locks as t on l.pid is null and t.pid is null and t.virtualtransaction = l.virtualtransaction
        and t.locktype = 'transactionid'
    left join pg_catalog.pg_prepared_xacts as x on x.transaction = t.transactionid
)
select format('%I.%I', n.nspname, c.relname) as relation, h.who as holder, w.who as waiting, h.query, h.remedy
from held as h
join pg_catalog.pg_class as c on c.oid = h.relation
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
left join lateral (
    select w.who
    from held as w
    where w.relation = h.relation and w.is_in_the_way and not w.granted and not h.is_in_the_way
        and coalesce(h.pid, 0) = any (pg_blocking_pids(w.pid))
    order by w.waitstart
    limit 1
) as w on true
where h.granted and (h.is_in_the_way or w.who is not null) and exists (select from lock as l where l.is_in_the_way)
order by h.is_in_the_way desc, h.since
limit 1;
