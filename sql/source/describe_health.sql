-- What "doctor" wants to know of a source table. One row. $1 relation (as describe_table.sql names it), $2 the column of the effective
-- time (null: none is), $3 the zone of timestamps without one, $4 why its transactions mean nothing (null: they do), $5 what rows are
-- read from.
-- untouched: $1 snapshot and $2 clock (instant) of a full sweep: of the first hundred thousand rows, those that were written since and are
-- stamped an hour or more before it. It is null where transactions mean nothing, and where no column is the effective time.
select
    coalesce(a.atttypid = 'timestamp'::regtype, false) as is_local_time,
    c.relkind = 'p' as is_partitioned,
    row_security_active(c.oid) as is_hidden,
    case when $4::text is null and a.attname is not null then format(
        'select count(*)::integer as untouched '
            || 'from (select t.%1$I as effective, t.xmin::text::bigint as written_by from %2$s as t limit 100000) as t '
            || 'cross join lateral (select pg_snapshot_xmax(s)::text::bigint as newest, pg_snapshot_xmax(s)::text::bigint & ~4294967295 '
            || 'as epoch from pg_current_snapshot() as s) as n '
            || 'where case when n.epoch + t.written_by <= n.newest then n.epoch else n.epoch - 4294967296 end + t.written_by '
            || '>= pg_snapshot_xmax($1::text::pg_snapshot)::text::bigint '
            || 'and t.effective < $2::text::timestamptz%3$s - interval ''1 hour''',
        a.attname, $5::text, case when a.atttypid = 'timestamp'::regtype then format(' at time zone %L', $3::text) else '' end
    ) end as untouched
from pg_catalog.pg_class as c
left join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attname = $2::text
where c.oid = $1::text::regclass;
