create or replace function tidemark.unsubscribe(
    p_subscription_name text
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Ends a subscription: it is told nothing more, and holds no event back from being pruned. Errors: TM032 there is none of that name.
begin
    perform tidemark._assert_subscription_known(p_subscription_name);
    delete from tidemark.events as e
    using tidemark.event_groups as g
    where g.subscription_name = p_subscription_name and e.group_id = g.group_id;
    delete from tidemark.event_groups as g where g.subscription_name = p_subscription_name;
    delete from tidemark.subscriptions as s where s.subscription_name = p_subscription_name;
    perform tidemark._forget_told_keys();
end;
$$;

revoke execute on function tidemark.unsubscribe (text) from public;

create or replace function tidemark._assert_subscription_known(
    p_subscription_name text
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Makes sure that there is a subscription of that name. Errors: TM032 there is none.
begin
    if not exists (select from tidemark.subscriptions as s where s.subscription_name = p_subscription_name) then
        raise exception using
            errcode = 'TM032',
            message = 'there is no subscription of that name',
            detail = format('subscription=%s', p_subscription_name),
            hint = 'npx tidemark events status shows those that there are';
    end if;
end;
$$;
