create or replace function tidemark.prune_events(
    p_retention_days integer
)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Removes events that every subscription has and that were noted more than p_retention_days ago, oldest first and without leaving a gap:
-- where one is kept, so is what corrects it. Returns how many there were. The offset of a subscription that wants none of the next events
-- moves over them, unless a batch is on its way to it. Safe to repeat. Holds the lock of positions, so that no subscription is rewound, or
-- begins, among what is about to go.
declare
    v_last bigint := tidemark.number_events();
    v_until bigint;
    v_pruned bigint;
begin
    update tidemark.subscriptions as s
    set acknowledged = n.next_position - 1
    from (
        select o.subscription_name, coalesce((
            select min(greatest(g.first_position, o.acknowledged + 1))
            from tidemark.event_groups as g
            where g.first_position + g.event_count - 1 > o.acknowledged
                and (o.dimensions is null or g.dimension_name = any (o.dimensions))
                and (g.subscription_name is null or g.subscription_name = o.subscription_name)
        ), v_last + 1) as next_position
        from tidemark.subscriptions as o
    ) as n
    where s.subscription_name = n.subscription_name and s.acknowledged < n.next_position - 1
        and s.failed_position is null and s.batch_end is null;

    v_until := least(
        (select min(s.acknowledged) from tidemark.subscriptions as s),
        (
            select min(g.first_position) - 1
            from tidemark.event_groups as g
            where g.noted_at >= clock_timestamp() - make_interval(days => p_retention_days)
        ),
        v_last
    );
    with gone as (
        delete from tidemark.event_groups as g
        where g.first_position + g.event_count - 1 <= v_until
        returning g.group_id
    )
    delete from tidemark.events as e using gone as g where e.group_id = g.group_id;
    get diagnostics v_pruned = row_count;
    delete from tidemark.skipped_events as k where k.event_position <= v_until;
    return v_pruned;
end;
$$;

revoke execute on function tidemark.prune_events (integer) from public;
