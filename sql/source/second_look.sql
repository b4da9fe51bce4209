-- The second look, after the snapshot of the sweep was taken: which transactions of the poll before are open still. One row.
-- $1 what the poll before found open (json array); $2 the sessions that a look just before this one
-- found open (json array of names), null for the first look.
-- A session counts as open only while it shows a transaction number or a snapshot, which it gives up at the very moment its changes
-- become visible; its start time it shows a little longer. Two looks in a row rule out that those are the next transaction's already.
select coalesce(json_agg(a.who), '[]')::text as who
from (
    select format('session %s %s %s', a.pid, extract(epoch from a.backend_start), extract(epoch from a.xact_start)) as who
    from pg_catalog.pg_stat_activity as a
    where a.datname = current_database() and (a.backend_xid is not null or a.backend_xmin is not null)
) as a
where a.who in (select o.who from json_to_recordset($1::text::json) as o (who text))
    and ($2::text is null or a.who in (select e.who from json_array_elements_text($2::text::json) as e (who)));
