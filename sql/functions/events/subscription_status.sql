create or replace function tidemark.subscription_status(
    p_now timestamptz default clock_timestamp()
)
returns table (
    subscription_name text,
    state text,
    transport text,
    target text,
    dimensions text [],
    acknowledged bigint,
    last_position bigint,
    events_pending bigint,
    events_lag_seconds double precision,
    failed_position bigint,
    last_error text,
    last_error_at timestamptz,
    acknowledged_at timestamptz,
    paused_by text
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Every subscription and how it fares: state is active, paused, or failing where it is stopped by an event that it refuses
-- (failed_position). events_pending counts what it is still to be told of, events without a position included, and events_lag_seconds is
-- the age of the oldest of them. target is without what may be a secret in it.
select s.subscription_name,
    case when s.failed_position is not null then 'failing' when s.paused_at is not null then 'paused' else 'active' end,
    s.transport, s.shown_target, s.dimensions, s.acknowledged, n.last_position,
    greatest(p.events - k.events, 0),
    case when p.events > k.events then greatest(extract(epoch from p_now - p.noted_at), 0) else 0 end::double precision,
    s.failed_position, s.last_error, s.last_error_at, s.acknowledged_at, s.paused_by
from tidemark.subscriptions as s
cross join tidemark.event_numbering as n
cross join lateral (
    select coalesce(sum(least(g.event_count, coalesce(g.first_position + g.event_count - 1 - s.acknowledged, g.event_count))), 0)::bigint
            as events,
        min(g.noted_at) as noted_at
    from tidemark.event_groups as g
    where (g.first_position is null or g.first_position + g.event_count - 1 > s.acknowledged)
        and (s.dimensions is null or g.dimension_name = any (s.dimensions))
        and (g.subscription_name is null or g.subscription_name = s.subscription_name)
) as p
cross join lateral (
    select count(*) as events
    from tidemark.skipped_events as k
    where k.subscription_name = s.subscription_name and k.event_position > s.acknowledged
) as k
order by s.subscription_name;
$$;
