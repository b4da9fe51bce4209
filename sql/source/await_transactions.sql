-- Whom a hand-over to the log, or a repair, still waits for: one row a transaction that was open when another one got its number, and is
-- still; none when all have ended. $1 that number (xid8), of a transaction that has ended: so a snapshot has all of those before it.
-- A transaction of which nothing can be seen (of another database, or without the right) is named by its number.
select x.xid::text as transaction,
    coalesce(
        (
            select format('process %s (%s, user %s) since %s', a.pid, a.application_name, a.usename, a.xact_start)
            from pg_catalog.pg_stat_activity as a
            where a.backend_xid = x.xid::xid
        ),
        (
            select format('prepared transaction %L since %s', p.gid, p.prepared)
            from pg_catalog.pg_prepared_xacts as p
            where p.transaction = x.xid::xid
        ),
        format('transaction %s', x.xid)
    ) as who
from (select pg_current_snapshot() as now) as s
cross join lateral (
    select o.xid from pg_snapshot_xip(s.now) as o (xid)
    where o.xid < $1::text::xid8
) as x (xid)
order by x.xid;
