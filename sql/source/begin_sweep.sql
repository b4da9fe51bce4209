-- The bounds of a sweep, once its snapshot is taken and the second look is done. One row.
-- $1 the snapshot of this sweep; $2 that of the sweep it continues from (null: from the beginning);
-- $3 what the poll before found open (json array), $4 the floor of all others then (null: from the beginning);
-- $5 sessions that are open still (json array of names).
-- What the sweep before could not see was written by transactions that it could not see yet: the oldest of those in progress then that
-- has ended by now, and all later ones. Sub-transactions have numbers above their parent's. A transaction that is open still has
-- nothing to show, so that it need not hold the floor down.
select
    coalesce(
        (
            select min(x.xid)
            from pg_snapshot_xip($2::text::pg_snapshot) as x (xid)
            where pg_visible_in_snapshot(x.xid, $1::text::pg_snapshot)
        ),
        pg_snapshot_xmax($2::text::pg_snapshot)
    )::text as from_transaction,
    pg_snapshot_xmax($1::text::pg_snapshot)::text as before_transaction,
    case when $4::text is not null then to_json(least(
        $4::text::timestamptz,
        (
            select min(o.since)
            from json_to_recordset($3::text::json) as o (who text, since timestamptz, transaction xid8)
            where o.who not in (select e.who from json_array_elements_text($5::text::json) as e (who))
                and coalesce(pg_visible_in_snapshot(o.transaction, $1::text::pg_snapshot), true)
        )
    )) #>> '{}' end as floor;
