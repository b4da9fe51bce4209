create or replace function tidemark.skip_event(
    p_subscription_name text,
    p_position bigint,
    p_reason text,
    p_who text default null
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Never tells a subscription of one event, with a reason; tidemark.skipped_events keeps who did it (p_who, else the session's role), when
-- and why. Where it is stopped by that event it goes on. Safe to repeat.
-- Errors: TM012 no reason is given, TM032 there is no subscription of that name, or no event of that position.
declare
    v_last bigint := (select n.last_position from tidemark.event_numbering as n);
begin
    perform tidemark._assert_subscription_known(p_subscription_name);
    if coalesce(btrim(p_reason), '') = '' then
        raise exception using
            errcode = 'TM012',
            message = 'an event cannot be skipped without a reason',
            detail = format('subscription=%s position=%s', p_subscription_name, p_position),
            hint = 'say in p_reason why nobody need be told';
    elsif p_position is null or p_position < 1 or p_position > v_last then
        raise exception using
            errcode = 'TM032',
            message = 'there is no event of that position',
            detail = format('subscription=%s position=%s', p_subscription_name, p_position),
            hint = format('the last one is %s; npx tidemark events status says which one a subscription refuses', v_last);
    end if;
    insert into tidemark.skipped_events (subscription_name, event_position, reason, skipped_by)
    values (p_subscription_name, p_position, p_reason, tidemark._who(p_who))
    on conflict do nothing;
    update tidemark.subscriptions as s
    set batch_end = null, failed_position = nullif(s.failed_position, p_position)
    where s.subscription_name = p_subscription_name;
end;
$$;

revoke execute on function tidemark.skip_event (text, bigint, text, text) from public;
