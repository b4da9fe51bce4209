-- Events of orders as CloudEvents in JSON, by rows of tidemark.events that have positions, with key and tracked columns of the
-- versions they are about, without masked ones. What tidemark.read_events says of values that are left out is done here.
-- was_before: the version before is what it was; is_there: so is the version, or the end, that the event is about. A point of a key's time
-- is superseded where a later event corrects or retracts it, which is found by key and time in an index that has only such events.
-- Runs with the rights of its caller.
-- Written by tidemark.compile_dimension: change the mapping or the history, and compile it again, never this.
#variable_conflict use_column
declare
    v_source text := (select tidemark._uri_part(n.warehouse) || '/' || 'orders' from tidemark.event_numbering as n);
begin
    return query
    select r.event_position, 'orders', r.kind, r.event_type, r.event_id, coalesce(r.business_key, 'forgotten'),
        concat('{', concat_ws(
            ',',
            '"specversion":"1.0"',
            '"id":' || to_json(r.event_id),
            '"source":' || to_json('/' || v_source),
            '"type":' || to_json(r.event_type),
            '"subject":' || to_json(r.subject),
            case when r.effective_at >= '0001-01-01 00:00:00+00' then '"time":' || to_json(r.valid_from) end,
            '"datacontenttype":"application/json"',
            '"partitionkey":' || to_json(r.business_key),
            '"sequence":' || to_json(lpad(r.event_position::text, 19, '0')),
            '"data":' || r.data
        ), '}')
    from (
        select p.event_position, p.kind, p.business_key, p.effective_at, p.valid_from,
            replace('tidemark.orders.{kind}', '{kind}', p.kind) as event_type,
            concat(v_source, '/', p.event_position) as event_id,
            nullif(p.business_key::json ->> 'order_key', '') as subject,
            json_build_object(
                'kind', p.kind,
                'key', p.business_key::json,
                'point', case when p.kind <> 'forgotten' then case when p.is_end then 'end' else 'version' end end,
                'valid_from', p.valid_from,
                'before', case when s.was_before then (
                    select row_to_json(v.*)
                    from (select h_before.*) as c
                    cross join lateral (
                        select
                            c.order_key, c.customer_id, c.product_id, c.quantity, c.unit_price, c.total_amount,
                            c.order_status::text as order_status, c.order_date
                    ) as v
                ) end,
                'after', case when s.is_there and h_after.surrogate_key is not null then (
                    select row_to_json(v.*)
                    from (select h_after.*) as c
                    cross join lateral (
                        select
                            c.order_key, c.customer_id, c.product_id, c.quantity, c.unit_price, c.total_amount,
                            c.order_status::text as order_status, c.order_date
                    ) as v
                ) end,
                'changed', case when s.was_before and s.is_there and h_after.surrogate_key is not null then to_json(array_remove(array[
                    case when h_after.customer_id::text collate "C" is distinct from h_before.customer_id::text then 'customer_id' end,
                    case when h_after.product_id::text collate "C" is distinct from h_before.product_id::text then 'product_id' end,
                    case when h_after.quantity::text collate "C" is distinct from h_before.quantity::text then 'quantity' end,
                    case when h_after.unit_price::text collate "C" is distinct from h_before.unit_price::text then 'unit_price' end,
                    case when h_after.total_amount::text collate "C" is distinct from h_before.total_amount::text then 'total_amount' end,
                    case when h_after.order_status::text collate "C" is distinct from h_before.order_status::text then 'order_status' end,
                    case when h_after.order_date::text collate "C" is distinct from h_before.order_date::text then 'order_date' end
                ]::text[], null)) end,
                'superseded', not s.is_there or not coalesce(s.was_before, true),
                'snapshot', p.is_snapshot,
                'lineage', json_build_object('batch_id', p.batch_id, 'line', p.change_line)
            )::text as data
        from (
            select e.*, g.first_position + e.place - 1 as event_position, g.batch_id,
                g.noted_at >= 'infinity'::timestamptz as is_watched, g.subscription_name is not null as is_snapshot,
                to_char(e.effective_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                    || case when e.effective_at < '0001-01-01 00:00:00+00' then ' BC' else '' end as valid_from
            from unnest(render_orders.p_events) as e
            cross join lateral (select o.* from tidemark.event_groups as o where o.group_id = e.group_id offset 0) as g
        ) as p
        -- "offset 0": a version or a group at a time, by its number, in each partition; else all might be read through for a page.
        left join lateral (
            select h.*
            from public.dim_orders_history as h
            where h.surrogate_key = p.version_key and p.kind not in ('retracted', 'forgotten')
            offset 0
        ) as h_after on true
        left join lateral (select h.* from public.dim_orders_history as h where h.surrogate_key = p.before_key offset 0) as h_before on true
        cross join lateral (
            select
                case when p.before_key is not null then p.business_key is not null and h_before.surrogate_key is not null
                    and p.is_watched and not exists (
                    select
                    from tidemark.events as x
                    cross join lateral (select o.* from tidemark.event_groups as o where o.group_id = x.group_id offset 0) as g
                    where g.dimension_name = 'orders' and x.business_key = p.business_key
                        and x.effective_at = h_before.valid_from at time zone 'UTC' and not x.is_end
                        and x.kind in ('corrected', 'retracted')
                        and (g.first_position is null or g.first_position + x.place - 1 > p.event_position)
                ) end as was_before,
                p.kind = 'forgotten' or (
                    p.business_key is not null
                    and (p.is_end or p.kind = 'retracted' or h_after.surrogate_key is not null and p.is_watched)
                    and (p.kind = 'retracted' or not exists (
                        select
                        from tidemark.events as x
                        cross join lateral (select o.* from tidemark.event_groups as o where o.group_id = x.group_id offset 0) as g
                        where g.dimension_name = 'orders' and x.business_key = p.business_key
                            and x.effective_at = p.effective_at and x.is_end = p.is_end
                            and x.kind in ('corrected', 'retracted')
                            and (g.first_position is null or g.first_position + x.place - 1 > p.event_position)
                    ))
                ) as is_there
            offset 0
        ) as s
    ) as r;
end;
