create or replace function tidemark.read_subscription(
    p_subscription_name text,
    p_after bigint default null,
    p_limit integer default 100,
    p_until bigint default null
)
returns setof tidemark.rendered_event
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
-- The first p_limit events that a subscription is to be told of, after a position or its offset (null), as tidemark.read_events has them:
-- those of its dimensions and of its snapshot, without those that it skips, up to the position p_until, if given.
select e.*
from tidemark.subscriptions as s
cross join lateral tidemark._read_events(coalesce(p_after, s.acknowledged), p_limit, s.dimensions, s.subscription_name) as e
where s.subscription_name = p_subscription_name and e.event_position <= coalesce(p_until, e.event_position)
order by e.event_position;
$$;

revoke execute on function tidemark.read_subscription (text, bigint, integer, bigint) from public;
