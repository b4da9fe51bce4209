-- The first look at the sessions of the source: which may hold a transaction open, and since when. One row.
-- $1 the clock, read before this (instant); $2 how old, in seconds, a transaction must be to be listed by itself.
-- A session that has begun a statement and not yet shown its transaction counts from that statement. A session whose times this role
-- may not see is blind. Autovacuum and walsenders write no rows of a table.
with session as (
    select
        format('session %s %s %s', a.pid, extract(epoch from a.backend_start), extract(epoch from a.xact_start)) as who,
        coalesce(a.xact_start, case when a.state <> 'idle' then a.query_start end) as since,
        a.state = 'disabled' or a.query = '<insufficient privilege>' as is_blind
    from pg_catalog.pg_stat_activity as a
    where a.datname = current_database()
        and a.pid <> pg_backend_pid()
        and coalesce(a.backend_type, 'hidden') not in ('autovacuum worker', 'walsender')
),
placed as (
    select s.*,
        row_number() over (order by s.since) <= 20
            and s.since <= $1::text::timestamptz - make_interval(secs => $2::text::double precision) as is_listed
    from session as s
    where s.since < $1::text::timestamptz
)
select
    coalesce(
        json_agg(json_build_object('who', p.who, 'since', p.since, 'transaction', null) order by p.since) filter (where p.is_listed), '[]'
    )::text as open_transactions,
    to_json(coalesce(min(p.since) filter (where not p.is_listed), $1::text::timestamptz)) #>> '{}' as floor_of_rest,
    (select count(*) from session as s where s.is_blind)::integer as blind_sessions
from placed as p;
