create or replace function tidemark.read_events(
    p_after bigint default 0,
    p_limit integer default 100,
    p_dimensions text [] default null
)
returns table (
    event_position bigint,
    dimension_name text,
    kind text,
    event_type text,
    event_id text,
    partition_key text,
    event text
)
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
select * from tidemark._read_events(p_after, p_limit, p_dimensions, null);
$$;

revoke execute on function tidemark.read_events (bigint, integer, text []) from public;

create or replace function tidemark._read_events(
    p_after bigint,
    p_limit integer,
    p_dimensions text [],
    p_subscription_name text
)
returns table (
    event_position bigint,
    dimension_name text,
    kind text,
    event_type text,
    event_id text,
    partition_key text,
    event text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- What tidemark.read_events and read_subscription say. A subscription is not told what it skips, and alone sees its snapshot.
-- First it finds the groups that have as many events as are asked for, then one statement reads the page, and each dimension in it
-- renders what is its own. A point of a key's time is superseded where a later event corrects or retracts it, which is found by key and
-- time in an index that has only such events.
declare
    v_start bigint := coalesce((select max(g.first_position) from tidemark.event_groups as g where g.first_position <= p_after + 1), 0);
    v_wanted bigint := p_limit + (
        select count(*)
        from tidemark.skipped_events as s
        where s.subscription_name = p_subscription_name and s.event_position > p_after
    );
    v_groups bigint [];
    v_dimensions text [];
begin
    select array_agg(g.group_id), array_agg(distinct g.dimension_name)
    into v_groups, v_dimensions
    from (
        select g.group_id, g.dimension_name, sum(g.events) over (order by g.first_position) - g.events as events_before
        from (
            select g.group_id, g.dimension_name, g.first_position,
                least(g.event_count, g.first_position + g.event_count - 1 - p_after) as events
            from tidemark.event_groups as g
            where g.first_position >= v_start and g.first_position + g.event_count - 1 > p_after
                and (p_dimensions is null or g.dimension_name = any (p_dimensions))
                and (g.subscription_name is null or g.subscription_name = p_subscription_name)
            order by g.first_position
            limit v_wanted
        ) as g
    ) as g
    where g.events_before < v_wanted;
    if v_groups is null then
        return;
    end if;

    return query execute format(
        $query$
        with page as materialized (
            select g.first_position + e.place - 1 as event_position, g.dimension_name, g.batch_id, g.noted_at,
                g.subscription_name is not null as is_snapshot,
                e.kind, e.is_end, e.business_key, e.version_key, e.before_key, e.effective_at, e.change_line
            from tidemark.event_groups as g
            cross join lateral (
                select e.*
                from tidemark.events as e
                where e.group_id = g.group_id and e.place > $1 - g.first_position + 1
                order by e.place
                limit $3
            ) as e
            where g.group_id = any ($2) and not exists (
                select
                from tidemark.skipped_events as s
                where s.subscription_name = $4 and s.event_position = g.first_position + e.place - 1
            )
            order by g.first_position, e.place
            limit $5
        )
        select r.event_position, r.dimension_name, r.kind, r.event_type, r.event_id, coalesce(r.business_key, 'forgotten'),
            concat('{', concat_ws(
                ',',
                '"specversion":"1.0"',
                '"id":' || to_json(r.event_id),
                '"source":' || to_json(r.source),
                '"type":' || to_json(r.event_type),
                '"subject":' || to_json(r.subject),
                case
                    when r.effective_at >= '0001-01-01 00:00:00+00'
                        then '"time":' || to_json(to_char(r.effective_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
                end,
                '"datacontenttype":"application/json"',
                '"partitionkey":' || to_json(r.business_key),
                '"sequence":' || to_json(lpad(r.event_position::text, 19, '0')),
                '"data":' || r.data
            ), '}')
        from (
            %s
        ) as r
        order by r.event_position
        $query$,
        (
            select string_agg(tidemark._event_query(d), e'\nunion all\n' order by d.dimension_name)
            from tidemark.dimensions as d
            where d.dimension_name = any (v_dimensions)
        )
    )
    using p_after, v_groups, v_wanted, p_subscription_name, p_limit;
end;
$$;

create or replace function tidemark._event_query(
    p_dimension tidemark.dimensions
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The query over a page of events (tidemark._read_events) that renders those of one dimension.
-- was_before: the version before is what it was; is_there: so is the version, or the end, that the event is about.
declare
    v_source text := (
        select concat(tidemark._uri_part(n.warehouse), '/', tidemark._uri_part(p_dimension.dimension_name))
        from tidemark.event_numbering as n
    );
begin
    return tidemark._laid_out(
        $query$
        select p.event_position, p.dimension_name, p.kind, p.business_key, p.effective_at,
            replace({type}, '{kind}', p.kind) as event_type, concat({id}, p.event_position) as event_id, {source} as source,
            nullif({subject}, '') as subject,
            json_build_object(
                'kind', p.kind,
                'key', p.business_key::json,
                'point', case when p.kind <> 'forgotten' then case when p.is_end then 'end' else 'version' end end,
                'valid_from', to_char(p.effective_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                    || case when p.effective_at < '0001-01-01 00:00:00+00' then ' BC' else '' end,
                'before', case when s.was_before then (
                    select row_to_json(v.*) from (select h_before.*) as c cross join lateral (select {event_values}) as v
                ) end,
                'after', case when s.is_there and h_after.surrogate_key is not null then (
                    select row_to_json(v.*) from (select h_after.*) as c cross join lateral (select {event_values}) as v
                ) end,
                'changed', case when s.was_before and s.is_there and h_after.surrogate_key is not null then to_json(array_remove(array[
                    {event_differences}
                ]::text[], null)) end,
                'superseded', not s.is_there or not coalesce(s.was_before, true),
                'snapshot', p.is_snapshot,
                'lineage', json_build_object('batch_id', p.batch_id, 'line', p.change_line)
            )::text as data
        from page as p
        left join {history} as h_after on h_after.surrogate_key = p.version_key and p.kind not in ('retracted', 'forgotten')
        left join {history} as h_before on h_before.surrogate_key = p.before_key
        cross join lateral (
            select
                case when p.before_key is not null then p.business_key is not null and h_before.surrogate_key is not null
                    and p.noted_at >= {since} and not exists (
                    select
                    from tidemark.events as x
                    join tidemark.event_groups as g on g.group_id = x.group_id and g.dimension_name = {dimension}
                    where x.business_key = p.business_key and x.effective_at = h_before.valid_from{at_utc} and not x.is_end
                        and x.kind in ('corrected', 'retracted')
                        and (g.first_position is null or g.first_position + x.place - 1 > p.event_position)
                ) end as was_before,
                p.kind = 'forgotten' or (
                    p.business_key is not null
                    and (p.is_end or p.kind = 'retracted' or h_after.surrogate_key is not null and p.noted_at >= {since})
                    and (p.kind = 'retracted' or not exists (
                        select
                        from tidemark.events as x
                        join tidemark.event_groups as g on g.group_id = x.group_id and g.dimension_name = {dimension}
                        where x.business_key = p.business_key and x.effective_at = p.effective_at and x.is_end = p.is_end
                            and x.kind in ('corrected', 'retracted')
                            and (g.first_position is null or g.first_position + x.place - 1 > p.event_position)
                    ))
                ) as is_there
        ) as s
        where p.dimension_name = {dimension}
        $query$,
        tidemark._column_lists(p_dimension.dimension_name) || jsonb_build_object(
            'kind', '{kind}',
            'type', quote_literal(tidemark._event_type(p_dimension, '{kind}')),
            'id', quote_literal(v_source || '/'),
            'source', quote_literal('/' || v_source),
            'since', format('coalesce(%L::timestamptz, ''infinity'')', p_dimension.events_since),
            'subject', (
                select case count(*)
                    when 1 then format('p.business_key::json ->> %L', min(c.history_column))
                    else '(select json_agg(k.value order by k.place)::text '
                        'from json_each(p.business_key::json) with ordinality as k (name, value, place))'
                end
                from tidemark.dimension_columns as c
                where c.dimension_name = p_dimension.dimension_name and c.column_role = 'business key'
            )
        )
    );
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
