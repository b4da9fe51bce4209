create or replace function tidemark.next_events(
    p_subscription_name text,
    p_position bigint,
    p_from bigint,
    p_since timestamptz,
    p_limit integer default 100
)
returns setof tidemark.rendered_event
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Moves the offset of a subscription (tidemark.acknowledge_events) and returns what it is to be told of next, at most p_limit events. Where
-- they end is noted, so that they are the same when they are sent again, after a crash too: a batch of which nothing was taken stays as it
-- is. Where nothing is left the offset moves past what the subscription does not want. Returns nothing then, nor where it was moved by
-- somebody else, paused or ended meanwhile.
declare
    v_position bigint := p_position;
    v_from bigint := p_from;
    v_last bigint := (select n.last_position from tidemark.event_numbering as n);
    v_end bigint;
    v_events tidemark.rendered_event [];
begin
    while tidemark.acknowledge_events(p_subscription_name, v_position, v_from, p_since) loop
        v_end := (select s.batch_end from tidemark.subscriptions as s where s.subscription_name = p_subscription_name);
        v_events := array(select e from tidemark.read_subscription(p_subscription_name, v_position, p_limit, v_end) as e);
        if cardinality(v_events) > 0 then
            update tidemark.subscriptions as s
            set batch_end = (v_events[cardinality(v_events)]).event_position
            where s.subscription_name = p_subscription_name;
            return query select * from unnest(v_events);
            return;
        end if;
        v_from := v_position;
        v_position := coalesce(v_end, v_last);
        exit when v_position <= v_from;
    end loop;
end;
$$;

revoke execute on function tidemark.next_events (text, bigint, bigint, timestamptz, integer) from public;
