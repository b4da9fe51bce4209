create or replace function tidemark.number_events()
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Gives positions to the events that were committed and have none: dense over the whole warehouse, in the order of each key. Returns the
-- last position there is. Whoever reads on from a position misses nothing: what is committed later gets a later one. A number that is
-- drawn before its transaction ends has not that property, because transactions end in another order than they draw.
-- One session at a time is inside, by an advisory lock that is held until the end of the transaction. Safe to repeat.
begin
    perform pg_advisory_xact_lock(hashtextextended('tidemark.numbering', 0));
    with waiting as materialized (
        select g.group_id, g.event_count, sum(g.event_count) over (order by g.group_id) as events_until
        from tidemark.event_groups as g
        where g.first_position is null
    ),
    moved as (
        update tidemark.event_numbering as n
        set last_position = n.last_position + w.events
        from (select sum(w.event_count) as events from waiting as w) as w
        where w.events > 0
        returning n.last_position - w.events as last_position_before
    )
    update tidemark.event_groups as g
    set first_position = m.last_position_before + w.events_until - w.event_count + 1
    from waiting as w
    cross join moved as m
    where g.group_id = w.group_id;
    return (select n.last_position from tidemark.event_numbering as n);
end;
$$;

revoke execute on function tidemark.number_events () from public;
