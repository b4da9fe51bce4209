-- Makes history of orders equal to the fold of all changes ever applied, those of this batch included, wherever it belongs: late,
-- out of order, rejected before, or without some columns. Only the slice of each key that the batch can alter is read: it begins with the
-- last version that no change of the batch can precede (the anchor), and holds every change since, those that were absorbed included.
-- Only what differs is written, and what is in the way moves first: versions that go, end earlier, or begin elsewhere (parked before all
-- time, where nothing can collide), then those that grow, then new ones, then the parked ones. A version that survives keeps its key, and
-- one that was absorbed and comes back has the key it had.
-- p_changes are changes of p_batch, p_lines their lines in it (null: 1, 2, 3, ...), p_missing the columns that any batch came without:
-- where a change lacks a column, it equals anything, and its version takes the first value that comes.
-- Of a batch that is retracted nothing is added: its changes say only which keys are to be folded anew, and from when
-- (tidemark._retract_changes, _restore_changes).
-- Of changes of a key that a transaction made in the log, which have one capture time, the last supersedes the others.
-- Names that begin with _ are Tidemark's own. The caller holds the lock and asks the ledger, so that repeating is safe.
-- Written by tidemark.compile_dimension: change the mapping or the history, and compile it again, never this.
#variable_conflict use_column
<<own>>
declare
    moved json;
begin
    with change as materialized (
        select
            coalesce(converge_orders.p_lines[c._line], c._line::integer) as _line,
            c._operation, coalesce(c._effective, c._extracted_at::timestamptz, p_batch.extracted_at) as _effective,
            coalesce(c._extracted_at::timestamptz, p_batch.extracted_at) as _captured_at,
            c._extracted_at not like '____-__-__%' as _is_captured_oddly,
            not (c.unit_price is not distinct from c.unit_price::numeric(10,2)
                and c.total_amount is not distinct from c.total_amount::numeric(10,2)) as _is_rounded,
            c.order_key, c.customer_id, c.product_id, c.quantity, c.unit_price::numeric(10,2) as unit_price,
            c.total_amount::numeric(10,2) as total_amount, c.order_status,
            (c.order_date at time zone 'UTC') as order_date
        from rows from (json_to_recordset(p_changes) as (
            id integer, customer_id integer, product_id integer, quantity integer, unit_price numeric,
            total_amount numeric, order_status character varying(50), order_date timestamptz,
            operation_type text, cdc_timestamp timestamptz, extracted_at text
        )) with ordinality as c (
            order_key, customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date,
            _operation, _effective, _extracted_at, _line
        )
    ),
    affected as (
        select c.*, json_build_object('order_key', c.order_key)::text as _business_key
        from (
            select c.order_key, case count(*) when 1 then min(c._line) end as _only_line,
                min(c._captured_at) as _earliest
            from change as c
            group by c.order_key
        ) as c
    ),
    anchored as materialized (
        select c.*, v._anchor_from, v._anchor_captured_at, v._anchor
        from affected as c
        left join lateral (
            select h.valid_from as _anchor_from, h.captured_at as _anchor_captured_at, h.*::public.dim_orders_history as _anchor
            from public.dim_orders_history as h
            where h.order_key = c.order_key and h.captured_at < c._earliest
            order by h.valid_from desc
            limit 1
        ) as v on true
    ),
    -- Most late changes need no fold. They are alone of their key in the batch, differ from the version before and from the one after it,
    -- which begins where that ends (or there is none before, or after), no change in between was absorbed, and no column is missing. Such
    -- a change takes the rest of the time of the version before, and alters nothing else.
    split as materialized (
        select c.order_key, c.customer_id, c.product_id, c.quantity, c.unit_price, c.total_amount, c.order_status,
            c.order_date, c._operation, c._effective, c._captured_at, c._line,
            k._business_key, k._anchor, v._begins, t._takes_effect, v._ends
        from anchored as k
        join change as c on c._line = k._only_line
        left join lateral (
            select h.valid_from at time zone 'UTC' as _begins, h.valid_to at time zone 'UTC' as _ends, h.batch_id::text as _batch_id,
                c.customer_id is not distinct from h.customer_id
                and c.product_id is not distinct from h.product_id and c.quantity is not distinct from h.quantity
                and c.unit_price is not distinct from h.unit_price
                and c.total_amount is not distinct from h.total_amount
                and c.order_status collate "C" is not distinct from h.order_status collate "C"
                and c.order_date is not distinct from h.order_date as _is_equal
            from (select (k._anchor).*) as h
            where k._anchor_from is not null
        ) as v on true
        left join lateral (
            select h.valid_from at time zone 'UTC' as _begins, h.captured_at as _captured_at, h.batch_id::text as _batch_id,
                c.customer_id is not distinct from h.customer_id
                and c.product_id is not distinct from h.product_id and c.quantity is not distinct from h.quantity
                and c.unit_price is not distinct from h.unit_price
                and c.total_amount is not distinct from h.total_amount
                and c.order_status collate "C" is not distinct from h.order_status collate "C"
                and c.order_date is not distinct from h.order_date as _is_equal
            from public.dim_orders_history as h
            where h.order_key = c.order_key and h.valid_from > coalesce(k._anchor_from, '-infinity')
            order by h.valid_from
            limit 1
        ) as n on true
        cross join lateral (
            select tidemark._takes_effect(c._effective, c._captured_at, v._begins is not null, v._begins) as _takes_effect
        ) as t
        where p_batch.retracted_at is null and c._operation <> 'DELETE'
            and v._ends is not distinct from n._begins and v._is_equal is not true and n._is_equal is not true
            and coalesce(t._takes_effect < n._begins, true)
            and coalesce(c._captured_at < n._captured_at, true)
            and not exists (
                select
                from tidemark.absorbed_changes as a
                where a.dimension_name = 'orders' and a.business_key = k._business_key
                    and a.captured_at >= coalesce(k._anchor_captured_at, '-infinity')
                    and a.captured_at <= coalesce(n._captured_at, 'infinity')
            )
            and (p_batch.columns @> converge_orders.p_missing) is not false
            and (cardinality(converge_orders.p_missing) = 0 or not exists (
                select
                from tidemark.batches as b
                where b.dimension_name = 'orders' and b.batch_id in (v._batch_id, n._batch_id)
                    and not b.columns @> converge_orders.p_missing
            ))
    ),
    unsplit as materialized (
        select k.*
        from anchored as k
        left join split as s on s._line = k._only_line
        where s._line is null
    ),
    slice as (
        select
            c.order_key, case when 'customer_id' = any (b._lacks) then null else h.customer_id end as customer_id,
            case when 'product_id' = any (b._lacks) then null else h.product_id end as product_id,
            case when 'quantity' = any (b._lacks) then null else h.quantity end as quantity,
            case when 'unit_price' = any (b._lacks) then null else h.unit_price end as unit_price,
            case when 'total_amount' = any (b._lacks) then null else h.total_amount end as total_amount,
            case when 'order_status' = any (b._lacks) then null else h.order_status end as order_status,
            case when 'order_date' = any (b._lacks) then null else h.order_date end as order_date,
            'UPDATE' as _operation, h.cdc_timestamp at time zone 'UTC' as _effective, h.captured_at as _captured_at,
            b.sequence as _sequence, b.batch_id as _batch_id, b.shard as _shard, h.change_line::integer as _line, b._lacks,
            b.is_logged as _is_logged,
            'version' as _origin, c._business_key, c._anchor_from at time zone 'UTC' as _anchor_from,
            h.surrogate_key::bigint as _surrogate_key, f.surrogate_key is not null as _has_first_values, h._version,
            h.valid_from at time zone 'UTC' as _stored_from, h.valid_to at time zone 'UTC' as _stored_to,
            h.cdc_operation::text as _stored_operation,
            null as _stored_reason, null::timestamptz as _stored_closed_at
        from unsplit as c
        cross join lateral (
            select h.*, h.*::public.dim_orders_history as _version
            from public.dim_orders_history as h
            where h.order_key = c.order_key and h.valid_from >= coalesce(c._anchor_from, '-infinity')
            offset 0
        ) as h
        left join lateral (
            select b.sequence, b.batch_id, b.shard, b.is_logged,
                case
                    when not b.columns @> converge_orders.p_missing then tidemark._lacking(b.columns, converge_orders.p_missing)
                end as _lacks
            from tidemark.batches as b
            where b.dimension_name = 'orders' and b.batch_id = h.batch_id::text
            offset 0
        ) as b on true
        left join tidemark.first_values as f on f.dimension_name = 'orders' and f.surrogate_key = h.surrogate_key
        union all
        select
            r.order_key, r.customer_id, r.product_id, r.quantity, r.unit_price, r.total_amount, r.order_status,
            r.order_date,
            a.cdc_operation, a.cdc_timestamp, a.captured_at,
            b.sequence, a.batch_id, a.shard, a.change_line,
            case
                when not b.columns @> converge_orders.p_missing then tidemark._lacking(b.columns, converge_orders.p_missing)
            end,
            b.is_logged,
            'absorbed', c._business_key, c._anchor_from at time zone 'UTC',
            a.surrogate_key, false, null, null, null, null, a.reason, a.closed_at
        from unsplit as c
        join tidemark.absorbed_changes as a
            on a.dimension_name = 'orders' and a.business_key = c._business_key
            and a.captured_at >= coalesce(c._anchor_captured_at, '-infinity')
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
        union all
        select
            c.order_key, c.customer_id, c.product_id, c.quantity, c.unit_price, c.total_amount, c.order_status,
            c.order_date,
            c._operation, c._effective, c._captured_at,
            p_batch.sequence, p_batch.batch_id, p_batch.shard, c._line,
            case
                when not p_batch.columns @> converge_orders.p_missing then tidemark._lacking(p_batch.columns, converge_orders.p_missing)
            end,
            p_batch.is_logged,
            'new', k._business_key, k._anchor_from at time zone 'UTC', null, false, null, null, null, null, null, null
        from change as c
        join unsplit as k using (order_key)
        where p_batch.retracted_at is null
    ),
    in_order as (
        select c.*, row_number() over by_key as _place, coalesce(c._stored_from = c._anchor_from, false) as _is_anchor,
            coalesce(c._is_logged and lead(case when c._is_logged then c._captured_at end) over by_key = c._captured_at, false)
                as _is_superseded,
            c._anchor_from is null or bool_or(c._stored_from = c._anchor_from) over by_key is true as _is_in_slice,
            coalesce(bool_or(c._origin <> 'new') over (by_key rows between 1 following and unbounded following), false)
                as _is_followed
        from slice as c
        window by_key as (
            partition by c.order_key
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
                    when c._business_key in (select s.business_key from tidemark.shell_keys as s where s.dimension_name = 'orders')
                        then c._batch_id || ' ' || c._line
                end,
                case when c._lacks is not null then array['customer_id' <> all (c._lacks),
                    'product_id' <> all (c._lacks), 'quantity' <> all (c._lacks), 'unit_price' <> all (c._lacks),
                    'total_amount' <> all (c._lacks), 'order_status' <> all (c._lacks),
                    'order_date' <> all (c._lacks)] || true end,
                case when c._is_anchor then c._stored_from end
            )
                filter (where not c._is_superseded) over (partition by c.order_key order by c._place) as _state
        from in_slice as c
    ),
    judged as (
        select c.*, (c._state).takes_effect as _takes_effect,
            case when c._is_superseded then 'superseded' else (c._state).verdict end as _verdict,
            count(*) filter (where not c._is_superseded and (c._state).verdict = 'opened')
                over (partition by c.order_key order by c._place) as _version_number
        from folded as c
    ),
    shown as (
        select c.*,
            (last_value(c._state) over by_version).content as _content,
            case when c._verdict = 'opened' then c._lacks end as _fills,
            lead(c._takes_effect) over (partition by c.order_key, c._verdict in ('opened', 'delete') order by c._place) as _ends,
            case when c._is_anchor then c._stored_operation when (c._state).begins_life then 'INSERT' else 'UPDATE' end
                as _version_operation
        from judged as c
        window by_version as (
            partition by c.order_key, c._version_number order by c._place
            rows between unbounded preceding and unbounded following
        )
    ),
    outcome as materialized (
        select
            c.order_key,
            case when 'customer_id' = any (c._fills) then c._content[1]::integer else c.customer_id end as customer_id,
            case when 'product_id' = any (c._fills) then c._content[2]::integer else c.product_id end as product_id,
            case when 'quantity' = any (c._fills) then c._content[3]::integer else c.quantity end as quantity,
            case when 'unit_price' = any (c._fills) then c._content[4]::numeric(10,2) else c.unit_price end as unit_price,
            case when 'total_amount' = any (c._fills) then c._content[5]::numeric(10,2) else c.total_amount end as total_amount,
            case when 'order_status' = any (c._fills) then c._content[6]::character varying(50) else c.order_status end as order_status,
            case when 'order_date' = any (c._fills) then c._content[7]::timestamp without time zone else c.order_date end as order_date,
            c._operation, c._effective, c._captured_at, c._sequence, c._batch_id, c._shard, c._line, c._lacks,
            c._origin, c._business_key, c._surrogate_key, c._has_first_values, c._version,
            c._stored_from, c._stored_to, c._stored_operation, c._stored_reason, c._stored_closed_at,
            c._verdict, c._takes_effect, c._ends, c._version_operation, c._is_followed
        from shown as c
        union all
        select
            c.order_key, c.customer_id, c.product_id, c.quantity, c.unit_price, c.total_amount, c.order_status,
            c.order_date,
            c._operation, c._effective, c._captured_at, p_batch.sequence, p_batch.batch_id, p_batch.shard, c._line, null,
            'new', c._business_key, null, false, null,
            null, null, null, null, null,
            'opened', c._takes_effect, c._ends, case when c._begins is null then 'INSERT' else 'UPDATE' end, c._ends is not null
        from split as c
        union all
        select
            h.order_key, h.customer_id, h.product_id, h.quantity, h.unit_price, h.total_amount, h.order_status,
            h.order_date,
            'UPDATE', null, h.captured_at, null, null, null, null, null,
            'version', c._business_key, h.surrogate_key, false, c._anchor,
            c._begins, c._ends, h.cdc_operation, null, null,
            'opened', c._begins, c._takes_effect, h.cdc_operation, true
        from split as c
        cross join lateral (select (c._anchor).*) as h
        where c._begins is not null
    ),
    removed as (
        delete from public.dim_orders_history as h
        using outcome as c
        where c._origin = 'version' and c._verdict <> 'opened'
            and h.order_key = c.order_key and h.valid_from = c._stored_from at time zone 'UTC'
        returning 1
    ),
    kept as materialized (
        select c.*, c._takes_effect <> c._stored_from as _is_moved,
            c._takes_effect = c._stored_from and coalesce(c._ends < coalesce(c._stored_to, 'infinity'), false) as _is_shortened,
            c._ends is distinct from c._stored_to or c._version_operation <> c._stored_operation
                or (c._lacks is not null and row(c.customer_id, c.product_id, c.quantity, c.unit_price,
                    c.total_amount, c.order_status, c.order_date)::text is distinct from row((c._version).customer_id,
                    (c._version).product_id, (c._version).quantity, (c._version).unit_price,
                    (c._version).total_amount, (c._version).order_status, (c._version).order_date)::text)
                as _is_changed,
            timestamptz '4713-01-01 00:00:00+00 BC' + c._surrogate_key * interval '1 microsecond' as _parked
        from outcome as c
        where c._origin = 'version' and c._verdict = 'opened'
    ),
    vacated as (
        update public.dim_orders_history as h
        set valid_from = case when c._is_moved then c._parked at time zone 'UTC' else h.valid_from end,
            valid_to = case when c._is_moved then c._parked + interval '1 microsecond' else c._ends end at time zone 'UTC',
            customer_id = c.customer_id, product_id = c.product_id, quantity = c.quantity,
            unit_price = c.unit_price, total_amount = c.total_amount, order_status = c.order_status,
            order_date = c.order_date,
            is_current = false, cdc_operation = c._version_operation, updated_at = transaction_timestamp() at time zone 'UTC'
        from kept as c
        where (c._is_moved or c._is_shortened) and h.order_key = c.order_key and h.valid_from = c._stored_from at time zone 'UTC'
        returning 1
    ),
    settled as (
        update public.dim_orders_history as h
        set valid_to = c._ends at time zone 'UTC', is_current = c._ends is null,
            customer_id = c.customer_id, product_id = c.product_id, quantity = c.quantity,
            unit_price = c.unit_price, total_amount = c.total_amount, order_status = c.order_status,
            order_date = c.order_date,
            cdc_operation = c._version_operation, updated_at = transaction_timestamp() at time zone 'UTC'
        from kept as c
        where c._is_changed and not c._is_moved and not c._is_shortened
            and h.order_key = c.order_key and h.valid_from = c._stored_from at time zone 'UTC'
            and (select count(*) from removed) + (select count(*) from vacated) >= 0
        returning 1
    ),
    opened as (
        insert into public.dim_orders_history as h (
            order_key, customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date,
            valid_from, valid_to, is_current, cdc_operation, cdc_timestamp,
            batch_id, change_line, captured_at, created_at, updated_at
        )
        select
            c.order_key, c.customer_id, c.product_id, c.quantity, c.unit_price, c.total_amount, c.order_status,
            c.order_date,
            c._takes_effect at time zone 'UTC', c._ends at time zone 'UTC', c._ends is null,
            c._version_operation, c._effective at time zone 'UTC',
            c._batch_id, c._line, c._captured_at,
            transaction_timestamp() at time zone 'UTC', transaction_timestamp() at time zone 'UTC'
        from outcome as c
        where c._origin <> 'version' and c._verdict = 'opened' and c._surrogate_key is null
            and (select count(*) from removed) + (select count(*) from vacated) + (select count(*) from settled) >= 0
        order by c._captured_at, c._sequence, c._batch_id, c._line
        returning
            h.surrogate_key as _surrogate_key, h.is_current as _is_current, h.valid_from at time zone 'UTC' as _takes_effect,
            h.order_key
    ),
    reopened as (
        insert into public.dim_orders_history as h (
            surrogate_key, order_key, customer_id, product_id, quantity, unit_price, total_amount, order_status,
                order_date,
            valid_from, valid_to, is_current, cdc_operation, cdc_timestamp,
            batch_id, change_line, captured_at, created_at, updated_at
        )
        overriding system value
        select
            c._surrogate_key, c.order_key, c.customer_id, c.product_id, c.quantity, c.unit_price, c.total_amount,
                c.order_status, c.order_date,
            c._takes_effect at time zone 'UTC', c._ends at time zone 'UTC', c._ends is null,
            c._version_operation, c._effective at time zone 'UTC',
            c._batch_id, c._line, c._captured_at,
            transaction_timestamp() at time zone 'UTC', transaction_timestamp() at time zone 'UTC'
        from outcome as c
        where c._origin = 'absorbed' and c._verdict = 'opened' and c._surrogate_key is not null
            and (select count(*) from removed) + (select count(*) from vacated) + (select count(*) from settled) >= 0
        returning h.is_current as _is_current
    ),
    -- That they had some is still known of the time before.
    without_versions as (
        insert into tidemark.former_keys (dimension_name, business_key)
        select distinct 'orders', c._business_key
        from outcome as c
        where c._origin = 'version' and c._verdict <> 'opened'
            and not exists (select from outcome as o where o._business_key = c._business_key and o._verdict = 'opened')
        on conflict do nothing
    ),
    woken as (
        delete from tidemark.absorbed_changes as a
        using outcome as c
        where c._origin = 'absorbed' and c._verdict = 'opened'
            and a.dimension_name = 'orders' and a.shard = c._shard and a.batch_id = c._batch_id and a.change_line = c._line
    ),
    judged_again as (
        update tidemark.absorbed_changes as a
        set reason = c._verdict, closed_at = case c._verdict when 'delete' then c._takes_effect end
        from outcome as c
        where c._origin = 'absorbed' and c._verdict <> 'opened'
            and (c._verdict, case c._verdict when 'delete' then c._takes_effect end)
                is distinct from (c._stored_reason, c._stored_closed_at)
            and a.dimension_name = 'orders' and a.shard = c._shard and a.batch_id = c._batch_id and a.change_line = c._line
    ),
    absorbed as (
        insert into tidemark.absorbed_changes (
            dimension_name, shard, batch_id, change_line, business_key,
            cdc_operation, cdc_timestamp, captured_at, reason, closed_at, surrogate_key, change
        )
        select 'orders', c._shard, c._batch_id, c._line, c._business_key,
            coalesce(c._stored_operation, c._operation), c._effective, c._captured_at,
            c._verdict, case c._verdict when 'delete' then c._takes_effect end, c._surrogate_key,
            (select row_to_json(r.*) from (
                select c.order_key as id, c.customer_id, c.product_id, c.quantity, c.unit_price, c.total_amount,
                    c.order_status::text as order_status, c.order_date,
                    coalesce(c._stored_operation, c._operation) as operation_type, c._effective as cdc_timestamp,
                    c._captured_at as extracted_at
            ) as r)
        from outcome as c
        where c._origin <> 'absorbed' and c._verdict <> 'opened'
    )
    select
        (select count(*) from opened) + (select count(*) from reopened),
        (select count(*) from kept as c where c._stored_to is null and c._ends is not null)
            + (select count(*) from opened as o where not o._is_current) + (select count(*) from reopened as o where not o._is_current),
        (select count(*) from outcome as c where c._origin = 'new' and c._verdict <> 'opened'),
        (select count(*) from removed) + (
            select count(*)
            from kept as c
            where c._is_moved or c._ends is distinct from coalesce(c._stored_to, c._ends)
                or c._version_operation <> c._stored_operation
        ),
        (select count(*) from outcome as c where c._origin = 'new' and c._is_followed),
        count(*),
        min(c._line) filter (
            where c._operation is null or c._operation not in ('INSERT', 'UPDATE', 'DELETE')
                or c._is_captured_oddly or c._captured_at < '0001-01-01 00:00:00+00'
                or c._is_rounded
                or c.order_key is null
                or (c._operation <> 'DELETE' and (c.customer_id is null or c.product_id is null
                    or c.quantity is null or c.unit_price is null or c.total_amount is null
                    or c.order_status is null or c.order_date is null))
        ),
        min(c._captured_at),
        max(c._captured_at),
        (
            select json_agg(row_to_json(m.*))
            from (select c.order_key, c._parked, c._takes_effect, c._ends from kept as c where c._is_moved) as m
        )
    into
        inserted_versions, closed_versions, absorbed_changes, corrected_versions, late_changes,
        change_count, first_bad_line, least_captured_at, greatest_captured_at, own.moved
    from change as c;

    if own.moved is not null and first_bad_line is null then
        update public.dim_orders_history as h
        set valid_from = c._takes_effect at time zone 'UTC', valid_to = c._ends at time zone 'UTC', is_current = c._ends is null
        from (
            select c.order_key, c._parked, c._takes_effect, c._ends
            from json_to_recordset(own.moved) as c (
                order_key integer, _parked timestamptz, _takes_effect timestamptz, _ends timestamptz
            )
        ) as c
        where h.order_key = c.order_key and h.valid_from = c._parked at time zone 'UTC';
    end if;
    return next;
end;
