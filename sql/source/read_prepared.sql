-- The prepared transactions of the source, read after its sessions; completes the floor. One row.
-- $1 the open sessions and $2 the floor of all others, as read_sessions.sql gives them; $3 what the poll before found open (json array),
-- $4 its floor (null: there was no poll before). When a transaction was prepared says nothing of when it began: it counts from the
-- floor of the last poll that had not seen it, and from the beginning of time where no poll was before it.
with known as (
    select k.who, k.since from json_to_recordset($3::text::json) as k (who text, since timestamptz)
),
numbered as (
    select p.prepared,
        p.transaction::text::bigint + case when p.transaction::text::bigint + n.epoch <= n.newest then n.epoch else n.epoch - 4294967296 end
            as transaction
    from pg_catalog.pg_prepared_xacts as p
    cross join lateral (
        select pg_snapshot_xmax(s)::text::bigint as newest, pg_snapshot_xmax(s)::text::bigint & ~4294967295 as epoch
        from pg_current_snapshot() as s
    ) as n
    where p.database = current_database()
),
open as (
    select o.who, o.since, o.transaction
    from json_to_recordset($1::text::json) as o (who text, since timestamptz, transaction bigint)
    union all
    select w.who, coalesce(k.since, $4::text::timestamptz, '-infinity'), n.transaction
    from numbered as n
    cross join lateral (select format('prepared %s %s', n.transaction, extract(epoch from n.prepared)) as who) as w
    left join known as k on k.who = w.who
)
select
    coalesce(json_agg(json_build_object('who', o.who, 'since', o.since, 'transaction', o.transaction::text) order by o.since), '[]')
        as open_transactions,
    to_json(least($2::text::timestamptz, min(o.since))) #>> '{}' as floor
from open as o;
