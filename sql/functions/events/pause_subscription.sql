create or replace function tidemark.pause_subscription(
    p_subscription_name text,
    p_is_paused boolean,
    p_who text default null
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Pauses a subscription, or lets it go on (p_is_paused false), also where it was stopped by an event that it refused: it is told of that
-- one again. Nothing is lost meanwhile: events are kept until it has them. p_who did it, else the session's role. Safe to repeat.
-- Errors: TM032 there is none of that name.
begin
    perform tidemark._assert_subscription_known(p_subscription_name);
    update tidemark.subscriptions as s
    set paused_at = case when p_is_paused then coalesce(s.paused_at, clock_timestamp()) end,
        paused_by = case when p_is_paused then coalesce(s.paused_by, tidemark._who(p_who)) end,
        failed_position = case when p_is_paused then s.failed_position end,
        batch_end = case when p_is_paused then s.batch_end end
    where s.subscription_name = p_subscription_name;
end;
$$;

revoke execute on function tidemark.pause_subscription (text, boolean, text) from public;
