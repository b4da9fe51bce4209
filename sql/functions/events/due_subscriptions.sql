create or replace function tidemark.due_subscriptions()
returns table (
    subscription_name text,
    transport text,
    target text,
    secret text,
    options jsonb,
    told_since timestamptz,
    acknowledged bigint,
    last_position bigint
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The subscriptions that are to be told of events now, being neither paused nor stopped: how, where, after which position, and up to which
-- one there are any. secret says where the secret is.
select s.subscription_name, s.transport, s.target, s.secret, s.options, s.told_since, s.acknowledged, n.last_position
from tidemark.subscriptions as s
cross join tidemark.event_numbering as n
where s.paused_at is null and s.failed_position is null
order by s.subscription_name;
$$;
