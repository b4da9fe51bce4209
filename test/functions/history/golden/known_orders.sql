-- The history of one key of orders, all its versions, as the warehouse knew it at p_known: the fold of the changes that it had applied by
-- then, wherever they are now: in the versions they opened, among the absorbed or the retracted. A change is known since its batch was
-- applied, unless tidemark.changes_known_later has it, and not while its batch is retracted.
-- A version has the columns as of then, valid_to and is_current too, and the surrogate_key under which the change opened a version last.
-- What else comes from no change (created_at, updated_at) is that of the version, where it stands today, else null.
-- What was captured before the newest version from before the last pruning (the anchor) was all known at every moment that can be asked
-- for, so that it stands as it is stored. Earlier moments are for the caller to refuse (tidemark._assert_known).
-- Names that begin with _ are Tidemark's own. Runs with the rights of its caller.
-- Written by tidemark.compile_dimension: change the mapping or the history, and compile it again, never this.
#variable_conflict use_column
begin
    -- Most keys have no change that became known later, and are told as they are stored.
    if not exists (
        select
        from (select known_orders.p_order_key as order_key) as c
        cross join lateral (
            select h.batch_id::text as _batch_id, h.change_line as _line from public.dim_orders_history as h where h.order_key = c.order_key
            union all
            select a.batch_id, a.change_line
            from tidemark.absorbed_changes as a
            where a.dimension_name = 'orders' and a.business_key = json_build_object('order_key', c.order_key)::text
        ) as k
        join tidemark.batches as b on b.dimension_name = 'orders' and b.batch_id = k._batch_id
        left join tidemark.changes_known_later as n
            on n.dimension_name = 'orders' and n.shard = b.shard and n.batch_id = b.batch_id and n.change_line = k._line
        where coalesce(n.known_at, b.applied_at) > known_orders.p_known or exists (
            select
            from tidemark.retractions as t
            where t.dimension_name = 'orders' and t.shard = b.shard and t.batch_id = b.batch_id
                and t.restored_at > known_orders.p_known
        )
        union all
        select
        from (select known_orders.p_order_key as order_key) as c
        join tidemark.retracted_changes as r
            on r.dimension_name = 'orders' and r.business_key = json_build_object('order_key', c.order_key)::text
    ) then
        return query select h.surrogate_key, h.order_key, h.customer_id, h.product_id, h.quantity, h.unit_price,
            h.total_amount, h.order_status, h.order_date, h.valid_from, h.valid_to, h.is_current, h.cdc_operation,
            h.cdc_timestamp, h.batch_id, h.created_at, h.updated_at, h.captured_at, h.change_line from (select known_orders.p_order_key as order_key) as c join public.dim_orders_history as h on h.order_key = c.order_key;
        return;
    end if;

    return query
    with anchored as materialized (
        select c.*, json_build_object('order_key', c.order_key)::text as _business_key, v._anchor_from, v._anchor_captured_at, m._missing
        from (select known_orders.p_order_key as order_key) as c
        cross join (
            select array_agg(m.source_column) as _missing
            from tidemark.dimension_columns as m
            where m.dimension_name = 'orders' and m.may_be_missing
        ) as m
        left join lateral (
            select h.valid_from as _anchor_from, h.captured_at as _anchor_captured_at
            from tidemark.dimensions as d
            join public.dim_orders_history as h on h.captured_at < d.pruned_before
            where d.dimension_name = 'orders' and h.order_key = c.order_key
            order by h.valid_from desc
            limit 1
        ) as v on true
    ),
    applied as (
        select
            c.order_key, case when 'customer_id' = any (b._lacks) then null else h.customer_id end as customer_id,
            case when 'product_id' = any (b._lacks) then null else h.product_id end as product_id,
            case when 'quantity' = any (b._lacks) then null else h.quantity end as quantity,
            case when 'unit_price' = any (b._lacks) then null else h.unit_price end as unit_price,
            case when 'total_amount' = any (b._lacks) then null else h.total_amount end as total_amount,
            case when 'order_status' = any (b._lacks) then null else h.order_status end as order_status,
            case when 'order_date' = any (b._lacks) then null else h.order_date end as order_date,
            'UPDATE' as _operation, h.cdc_timestamp at time zone 'UTC' as _effective, h.captured_at as _captured_at,
            b.sequence as _sequence, h.batch_id::text as _batch_id, b.shard as _shard, h.change_line::integer as _line, b._lacks,
            b.is_logged as _is_logged, b.applied_at as _applied_at,
            c._anchor_from at time zone 'UTC' as _anchor_from, h.valid_from at time zone 'UTC' as _stored_from, h.cdc_operation::text as _stored_operation,
            h.surrogate_key::bigint as _surrogate_key, h._version
        from anchored as c
        cross join lateral (
            select h.*, h.*::public.dim_orders_history as _version
            from public.dim_orders_history as h
            where h.order_key = c.order_key and h.valid_from >= coalesce(c._anchor_from, '-infinity')
            offset 0
        ) as h
        left join lateral (
            select b.sequence, b.shard, b.is_logged, b.applied_at,
                case when not b.columns @> c._missing then tidemark._lacking(b.columns, c._missing) end as _lacks
            from tidemark.batches as b
            where b.dimension_name = 'orders' and b.batch_id = h.batch_id::text
            offset 0
        ) as b on true
        union all
        select
            r.order_key, r.customer_id, r.product_id, r.quantity, r.unit_price, r.total_amount, r.order_status,
            r.order_date,
            a.cdc_operation, a.cdc_timestamp, a.captured_at,
            b.sequence, a.batch_id, a.shard, a.change_line,
            case when not b.columns @> a._missing then tidemark._lacking(b.columns, a._missing) end,
            b.is_logged, b.applied_at,
            a._anchor_from at time zone 'UTC', null, null, a.surrogate_key, null
        from (
            select c._anchor_from, c._missing, a.shard, a.batch_id, a.change_line, a.cdc_operation, a.cdc_timestamp, a.captured_at,
                a.surrogate_key, a.change
            from anchored as c
            join tidemark.absorbed_changes as a
                on a.dimension_name = 'orders' and a.business_key = c._business_key
                and a.captured_at >= coalesce(c._anchor_captured_at, '-infinity')
            union all
            select c._anchor_from, c._missing, r.shard, r.batch_id, r.change_line, r.cdc_operation, r.cdc_timestamp, r.captured_at,
                r.surrogate_key, r.change
            from anchored as c
            join tidemark.retracted_changes as r
                on r.dimension_name = 'orders' and r.business_key = c._business_key and r.rejected is null
                and r.captured_at >= coalesce(c._anchor_captured_at, '-infinity')
        ) as a
        join tidemark.batches as b on b.dimension_name = 'orders' and b.shard = a.shard and b.batch_id = a.batch_id
        cross join lateral (
            select c.order_key, c.customer_id, c.product_id, c.quantity, c.unit_price::numeric(10,2) as unit_price,
                c.total_amount::numeric(10,2) as total_amount, c.order_status,
                (c.order_date at time zone 'UTC') as order_date
            from rows from (json_to_record(a.change) as (
                id integer, customer_id integer, product_id integer, quantity integer, unit_price numeric,
                total_amount numeric, order_status character varying(50), order_date timestamptz
            )) as c (order_key, customer_id, product_id, quantity, unit_price, total_amount, order_status,
                order_date)
        ) as r
    ),
    known as (
        select c.*
        from applied as c
        left join tidemark.changes_known_later as n
            on n.dimension_name = 'orders' and n.shard = c._shard and n.batch_id = c._batch_id and n.change_line = c._line
        where coalesce(n.known_at, c._applied_at, '-infinity') <= known_orders.p_known
            and not exists (
                select
                from tidemark.retractions as t
                where t.dimension_name = 'orders' and t.shard = c._shard and t.batch_id = c._batch_id
                    and t.retracted_at <= known_orders.p_known
                    and (t.restored_at > known_orders.p_known or t.restored_at is null)
            )
    ),
    in_order as (
        select c.*, row_number() over in_place as _place, coalesce(c._stored_from = c._anchor_from, false) as _is_anchor,
            coalesce(c._is_logged and lead(case when c._is_logged then c._captured_at end) over in_place = c._captured_at,
                false) as _is_superseded,
            c._anchor_from is null or bool_or(c._stored_from = c._anchor_from) over in_place is true as _is_in_slice
        from known as c
        window in_place as (
            order by c._captured_at, c._sequence nulls last, c._batch_id collate "C", c._shard collate "C", c._line
        )
    ),
    in_slice as (
        select c.*
        from in_order as c
        where c._is_in_slice
    ),
    folded as (
        select c.*,
            tidemark.fold(
                c._operation, c._effective, c._captured_at,
                array[c.customer_id::text collate "C", c.product_id::text collate "C",
                    c.quantity::text collate "C", c.unit_price::text collate "C", c.total_amount::text collate "C",
                    c.order_status::text collate "C", c.order_date::text collate "C"]::text[] || case
                    when exists (
                        select
                        from anchored as a
                        join tidemark.shell_keys as s on s.dimension_name = 'orders' and s.business_key = a._business_key
                    ) then c._batch_id || ' ' || c._line
                end,
                case when c._lacks is not null then array['customer_id' <> all (c._lacks),
                    'product_id' <> all (c._lacks), 'quantity' <> all (c._lacks), 'unit_price' <> all (c._lacks),
                    'total_amount' <> all (c._lacks), 'order_status' <> all (c._lacks),
                    'order_date' <> all (c._lacks)] || true end,
                case when c._is_anchor then c._stored_from end
            )
                filter (where not c._is_superseded) over (order by c._place) as _state
        from in_slice as c
    ),
    judged as (
        select c.*, (c._state).takes_effect as _takes_effect,
            case when c._is_superseded then 'superseded' else (c._state).verdict end as _verdict,
            count(*) filter (where not c._is_superseded and (c._state).verdict = 'opened') over (order by c._place) as _version_number
        from folded as c
    ),
    shown as (
        select c.*,
            (last_value(c._state) over by_version).content as _content,
            case when c._verdict = 'opened' then c._lacks end as _fills,
            lead(c._takes_effect) over (partition by c._verdict in ('opened', 'delete') order by c._place) as _ends,
            case when c._is_anchor then c._stored_operation when (c._state).begins_life then 'INSERT' else 'UPDATE' end
                as _version_operation
        from judged as c
        window by_version as (
            partition by c._version_number order by c._place
            rows between unbounded preceding and unbounded following
        )
    )
    select
        c._surrogate_key::bigint, c.order_key::integer, c.customer_id::integer, c.product_id::integer,
        c.quantity::integer, c.unit_price::numeric(10,2), c.total_amount::numeric(10,2),
        c.order_status::character varying(50), c.order_date::timestamp without time zone,
        (c._takes_effect at time zone 'UTC')::timestamp without time zone,
        (c._ends at time zone 'UTC')::timestamp without time zone, (c._ends is null)::boolean,
        c._version_operation::character varying(10),
        (c._effective at time zone 'UTC')::timestamp without time zone, c._batch_id::character varying(100),
        (c._version).created_at, (c._version).updated_at, c._captured_at::timestamp with time zone,
        c._line::integer
    from (
        select
            c.order_key,
            case when 'customer_id' = any (c._fills) then c._content[1]::integer else c.customer_id end as customer_id,
            case when 'product_id' = any (c._fills) then c._content[2]::integer else c.product_id end as product_id,
            case when 'quantity' = any (c._fills) then c._content[3]::integer else c.quantity end as quantity,
            case when 'unit_price' = any (c._fills) then c._content[4]::numeric(10,2) else c.unit_price end as unit_price,
            case when 'total_amount' = any (c._fills) then c._content[5]::numeric(10,2) else c.total_amount end as total_amount,
            case when 'order_status' = any (c._fills) then c._content[6]::character varying(50) else c.order_status end as order_status,
            case when 'order_date' = any (c._fills) then c._content[7]::timestamp without time zone else c.order_date end as order_date,
            c._takes_effect, c._ends, c._version_operation, c._effective, c._batch_id, c._line, c._captured_at, c._surrogate_key, c._version
        from shown as c
        where c._verdict = 'opened'
    ) as c
    union all
    select
        h.surrogate_key, h.order_key, h.customer_id, h.product_id, h.quantity, h.unit_price, h.total_amount,
        h.order_status, h.order_date, h.valid_from, h.valid_to, h.is_current, h.cdc_operation, h.cdc_timestamp,
        h.batch_id, h.created_at, h.updated_at, h.captured_at, h.change_line
    from anchored as c
    join public.dim_orders_history as h on h.order_key = c.order_key and h.valid_from < c._anchor_from;
end;
