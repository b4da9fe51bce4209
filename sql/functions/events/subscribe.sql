create or replace function tidemark.subscribe(
    p_subscription_name text,
    p_transport text,
    p_target text,
    p_from text default 'now',
    p_dimensions text [] default null,
    p_secret text default null,
    p_options jsonb default '{}'
)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Tells somebody of events, of some dimensions or of all (null), from now on (p_from 'now'), from the oldest that is kept ('oldest'), or
-- beginning with the versions in force ('snapshot'), which it is told of as created. p_secret says where its secret is: env:NAME or
-- file:/path. Returns the position after which it begins.
-- A snapshot is read by a transaction that gave positions to all events that it sees, in "isolation level repeatable read", and that
-- began while its session held the lock of tidemark.number_events: select pg_advisory_lock(hashtextextended('tidemark.numbering', 0)). So
-- what is told after the snapshot is later than it. "tidemark events subscribe" does that.
-- Errors: TM002 unknown dimension, TM006 isolation level, TM032 there is a subscription of that name, 22023 another p_from, 23514 a name
-- or secret in another form.
declare
    v_position bigint;
    v_dimension record;
begin
    perform tidemark._assert_dimension_known(d.name) from unnest(p_dimensions) as d (name);
    if exists (select from tidemark.subscriptions as s where s.subscription_name = p_subscription_name) then
        raise exception using
            errcode = 'TM032',
            message = 'there is a subscription of that name',
            detail = format('subscription=%s', p_subscription_name),
            hint = 'give another name, or end that one: npx tidemark events unsubscribe';
    elsif p_from not in ('now', 'oldest', 'snapshot') then
        raise exception using
            errcode = '22023',
            message = format('a subscription cannot begin from %s', p_from),
            detail = format('subscription=%s', p_subscription_name),
            hint = 'accepted is now, oldest or snapshot';
    elsif p_from = 'snapshot' and current_setting('transaction_isolation') <> 'repeatable read' then
        raise exception using
            errcode = 'TM006',
            message = format('a snapshot is read in repeatable read, not in %s', current_setting('transaction_isolation')),
            detail = format('subscription=%s', p_subscription_name),
            hint = 'npx tidemark events subscribe --from snapshot does it right';
    end if;

    v_position := tidemark.number_events();
    if p_from = 'oldest' then
        v_position := coalesce((
            select min(g.first_position) - 1
            from tidemark.event_groups as g
            where g.subscription_name is null and (p_dimensions is null or g.dimension_name = any (p_dimensions))
        ), v_position);
    end if;
    insert into tidemark.subscriptions (subscription_name, transport, target, secret, options, dimensions, acknowledged)
    values (p_subscription_name, p_transport, p_target, p_secret, p_options, p_dimensions, v_position);
    if p_from = 'snapshot' then
        for v_dimension in
            select d.*
            from tidemark.dimensions as d
            where d.events_since is not null and (p_dimensions is null or d.dimension_name = any (p_dimensions))
            order by d.dimension_name
        loop
            perform tidemark._note_snapshot(v_dimension.dimension_name, p_subscription_name);
        end loop;
        perform tidemark.number_events();
    end if;
    return v_position;
end;
$$;

revoke execute on function tidemark.subscribe (text, text, text, text, text [], text, jsonb) from public;

create or replace function tidemark._note_snapshot(
    p_dimension_name text,
    p_subscription_name text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Notes the versions in force of a dimension as events of a subscription, in the order of their surrogate keys, 10,000 to a group: a page
-- of them is read out of one group.
begin
    execute tidemark._laid_out(
        $statement$
        with version as materialized (
            select h.surrogate_key::bigint as surrogate_key, json_build_object({printed_stored_key})::text as business_key,
                h.valid_from{at_utc} as valid_from, row_number() over (order by h.surrogate_key) - 1 as place
            from {history} as h
            where h.is_current
        ),
        event_group as materialized (
            select g.number, nextval('tidemark.event_groups_group_id_seq') as group_id, g.event_count
            from (
                select v.place / 10000 as number, count(*) as event_count
                from version as v
                group by v.place / 10000
                order by v.place / 10000
            ) as g
        ),
        noted as (
            insert into tidemark.event_groups (group_id, dimension_name, subscription_name, event_count)
            select g.group_id, {dimension}, $1, g.event_count from event_group as g
        )
        insert into tidemark.events (group_id, place, kind, business_key, version_key, effective_at)
        select g.group_id, v.place % 10000 + 1, 'created', v.business_key, v.surrogate_key, v.valid_from
        from version as v
        join event_group as g on g.number = v.place / 10000
        $statement$,
        tidemark._column_lists(p_dimension_name)
    )
    using p_subscription_name;
end;
$$;
