create or replace function tidemark.rewind_subscription(
    p_subscription_name text,
    p_position bigint default null,
    p_instant timestamptz default null
)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Tells a subscription once more of the events after a position, or of those that were noted since an instant: the offset becomes that.
-- A batch that is on its way moves it no more. Going forward is no rewind: what it has not had is skipped one by one
-- (tidemark.skip_event). What it skipped before stays skipped.
-- Returns the offset. Waits for whoever prunes events.
-- Errors: TM032 there is none of that name, or events from there on are not kept any more.
declare
    v_subscription tidemark.subscriptions;
    v_oldest bigint;
    v_position bigint := p_position;
begin
    perform tidemark._assert_subscription_known(p_subscription_name);
    perform tidemark.number_events();
    select s.* into v_subscription from tidemark.subscriptions as s where s.subscription_name = p_subscription_name for update;
    v_oldest := coalesce((select min(g.first_position) - 1 from tidemark.event_groups as g), v_subscription.acknowledged);
    if v_position is null then
        v_position := least(
            (select min(g.first_position) - 1 from tidemark.event_groups as g where g.noted_at >= p_instant), v_subscription.acknowledged
        );
    end if;
    if v_position < v_oldest or v_position > v_subscription.acknowledged then
        raise exception using
            errcode = 'TM032',
            message = 'the subscription cannot be rewound to there',
            detail = format('subscription=%s position=%s', p_subscription_name, v_position),
            hint = format(
                'accepted is %s, after which the oldest event that is kept comes, to %s, where it stands',
                v_oldest, v_subscription.acknowledged
            );
    end if;
    update tidemark.subscriptions as s
    set acknowledged = v_position, failed_position = null, batch_end = null, acknowledged_at = clock_timestamp(),
        told_since = clock_timestamp()
    where s.subscription_name = p_subscription_name;
    return v_position;
end;
$$;

revoke execute on function tidemark.rewind_subscription (text, bigint, timestamptz) from public;
