create or replace function tidemark.read_events(
    p_after bigint default 0,
    p_limit integer default 100,
    p_dimensions text [] default null
)
returns setof tidemark.rendered_event
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
-- The first p_limit events after a position, in their order, of some dimensions or of all (null): each as a CloudEvent in JSON, with what
-- is needed to send it without reading that. partition_key is the key, whose events are to stay in their order.
-- Values are those of the versions that the event is about, key and tracked columns, without masked ones. They are the same whenever they
-- are read, unless a version was corrected, retracted or forgotten since: then they are left out, "superseded" is true, and a later event
-- says what became of it.
-- Events have positions when tidemark.number_events has given them. Runs with the rights of its owner, as histories are read whole.
select * from tidemark._read_events(p_after, p_limit, p_dimensions, null) as e order by e.event_position;
$$;

revoke execute on function tidemark.read_events (bigint, integer, text []) from public;

create or replace function tidemark._read_events(
    p_after bigint,
    p_limit integer,
    p_dimensions text [],
    p_subscription_name text
)
returns setof tidemark.rendered_event
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
-- What tidemark.read_events and read_subscription say, dimension by dimension. A subscription is not told what it skips, and alone sees its
-- snapshot. First it finds the groups that have as many events as are asked for, then reads the page; each dimension in it renders what is
-- its own (tidemark.render_<dimension>, which is compiled). Plans are kept for the session, as of a relay that began when there were few
-- events: each is looked up by an index, there and here (enable_seqscan), however many there are by now.
declare
    v_start bigint := coalesce((select max(g.first_position) from tidemark.event_groups as g where g.first_position <= p_after + 1), 0);
    v_wanted bigint := p_limit + (
        select count(*)
        from tidemark.skipped_events as s
        where s.subscription_name = p_subscription_name and s.event_position > p_after
    );
    v_groups bigint [];
    v_page record;
begin
    select array_agg(g.group_id)
    into v_groups
    from (
        select g.group_id, sum(g.events) over (order by g.first_position) - g.events as events_before
        from (
            select g.group_id, g.first_position, least(g.event_count, g.first_position + g.event_count - 1 - p_after) as events
            from tidemark.event_groups as g
            where g.first_position >= v_start and g.first_position + g.event_count - 1 > p_after
                and (p_dimensions is null or g.dimension_name = any (p_dimensions))
                and (g.subscription_name is null or g.subscription_name = p_subscription_name)
            order by g.first_position
            limit v_wanted
        ) as g
    ) as g
    where g.events_before < v_wanted;

    for v_page in
        select p.dimension_name, array_agg(p.event) as events
        from (
            select g.dimension_name, e.event
            from tidemark.event_groups as g
            cross join lateral (
                select e as event, e.place
                from tidemark.events as e
                where e.group_id = g.group_id and e.place > p_after - g.first_position + 1
                order by e.place
                limit v_wanted
            ) as e
            where g.group_id = any (v_groups) and not exists (
                select
                from tidemark.skipped_events as s
                where s.subscription_name = p_subscription_name and s.event_position = g.first_position + e.place - 1
            )
            order by g.first_position, e.place
            limit p_limit
        ) as p
        group by p.dimension_name
    loop
        return query execute format('select * from tidemark.%I($1)', tidemark._function_name('render', v_page.dimension_name))
        using v_page.events;
    end loop;
end;
$$;

create or replace function tidemark._uri_part(
    p_text text
)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
-- A text as a part of a URI: bytes that mean something else there, or nothing, are escaped.
select string_agg(
    case
        when b.byte between 48 and 57 or b.byte between 65 and 90 or b.byte between 97 and 122 or b.byte in (45, 46, 95, 126)
            then chr(b.byte)
        else '%' || upper(lpad(to_hex(b.byte), 2, '0'))
    end,
    '' order by b.place
)
from (
    select i.place, get_byte(t.bytes, i.place) as byte
    from (select convert_to(p_text, 'UTF8') as bytes) as t
    cross join generate_series(0, octet_length(t.bytes) - 1) as i (place)
) as b;
$$;
