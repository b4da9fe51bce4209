create or replace function tidemark.acknowledge_events(
    p_subscription_name text,
    p_position bigint,
    p_from bigint default null,
    p_since timestamptz default null
)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Moves the offset of a subscription: it has all events up to a position, without a gap. p_from is the offset that the reader set out
-- from, p_since its told_since then: where one of them is another by now, the subscription was rewound meanwhile, or is another one of that
-- name, and nothing moves. Returns whether the offset is that now, and more may be sent: not where the subscription was paused meanwhile.
-- Where nothing was taken, a batch that was about to be sent (tidemark.next_events) stays the same. Safe to repeat without p_from: the
-- offset never goes back.
declare
    v_is_due boolean;
begin
    update tidemark.subscriptions as s
    set acknowledged = p_position, batch_end = case when p_position = s.acknowledged then s.batch_end end,
        acknowledged_at = case when p_position > s.acknowledged then clock_timestamp() else s.acknowledged_at end,
        last_error = case when s.failed_position is not null or p_position = s.acknowledged then s.last_error end,
        last_error_at = case when s.failed_position is not null or p_position = s.acknowledged then s.last_error_at end
    where s.subscription_name = p_subscription_name and s.acknowledged <= p_position
        and s.acknowledged = coalesce(p_from, s.acknowledged) and s.told_since = coalesce(p_since, s.told_since)
    returning s.paused_at is null into v_is_due;
    if not found then
        return false;
    end if;
    perform tidemark._forget_told_keys();
    return v_is_due;
end;
$$;

revoke execute on function tidemark.acknowledge_events (text, bigint, bigint, timestamptz) from public;

create or replace function tidemark._forget_told_keys()
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- A key that was forgotten stands in the event that says so until every subscription of its dimension has it: then it goes from there too.
-- Where nothing is forgotten it is a look into an empty index.
update tidemark.events as e
set business_key = null
from tidemark.event_groups as g
where e.kind = 'forgotten' and e.business_key is not null and g.group_id = e.group_id
    and not exists (
        select
        from tidemark.subscriptions as s
        where (s.dimensions is null or g.dimension_name = any (s.dimensions))
            and (g.first_position is null or s.acknowledged < g.first_position + e.place - 1)
    );
$$;
