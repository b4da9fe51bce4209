-- Makes history of a batch of orders in one pass. It holds for the usual case: a batch captured after all that is loaded, with
-- every column. Each key is folded from its last version; most keys have one change in a batch, and only the others are sorted. Of those
-- that a transaction made in the log, which have one capture time, the last counts, and supersedes the others.
-- p_changes are changes of p_batch, p_lines their lines in it (null: 1, 2, 3, ...), p_missing the columns that any batch came without,
-- p_in_order_since the earliest capture time that comes after all that is loaded. Nothing is written, and no row returned, where a change
-- was captured before it, or meets a version that lacks one of the missing columns: that batch is for converge_orders.
-- Names that begin with _ are Tidemark's own. The caller holds the lock and asks the ledger, so that repeating is safe.
-- Written by tidemark.compile_dimension: change the mapping or the history, and compile it again, never this.
#variable_conflict use_column
declare
    _now timestamp := transaction_timestamp() at time zone 'UTC';
    _stated text := p_batch.metadata ->> 'extracted_at';
begin
    if cardinality(apply_orders.p_missing) > 0 and exists (
        select
        from (
            select c.order_key from rows from (json_to_recordset(p_changes) as (id integer)) as c (order_key)
        ) as c
        cross join lateral (
            select h.batch_id::text as _batch_id
            from public.dim_orders_history as h
            where h.order_key = c.order_key
            order by h.valid_from desc
            limit 1
        ) as v
        cross join lateral (
            select b.columns
            from tidemark.batches as b
            where b.dimension_name = 'orders' and b.batch_id = v._batch_id
            offset 0
        ) as b
        where not b.columns @> apply_orders.p_missing
    ) then
        return;
    end if;

    return query
    with change as materialized (
        select
            coalesce(apply_orders.p_lines[c._line], c._line::integer) as _line,
            c._operation, coalesce(c._effective, c._extracted_at::timestamptz, p_batch.extracted_at) as _effective,
            case
                when c._extracted_at is distinct from _stated then coalesce(c._extracted_at::timestamptz, p_batch.extracted_at)
                else p_batch.extracted_at
            end as _captured_at,
            c._extracted_at is distinct from _stated and c._extracted_at not like '____-__-__%' as _is_captured_oddly,
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
    repeated as materialized (
        select c.order_key, true as _is_repeated
        from change as c
        group by c.order_key
        having count(*) > 1
    ),
    -- No row where a change was captured before what is loaded: then nothing is written.
    taken as materialized (
        select count(*) as _change_count, min(c._captured_at) as _least_captured_at, max(c._captured_at) as _greatest_captured_at,
            bool_and(c._operation <> 'DELETE') and not exists (select from repeated)
                and (min(c.order_key) <= (select max(h.order_key) from public.dim_orders_history as h)) is not true as _are_new,
            min(c._line) filter (
                where c._operation is null or c._operation not in ('INSERT', 'UPDATE', 'DELETE')
                    or c._is_captured_oddly or c._captured_at < '0001-01-01 00:00:00+00'
                    or c._is_rounded
                    or c.order_key is null
                    or (c._operation <> 'DELETE' and (c.customer_id is null or c.product_id is null
                        or c.quantity is null or c.unit_price is null or c.total_amount is null
                        or c.order_status is null or c.order_date is null))
            ) as _first_bad_line
        from change as c
        having coalesce(min(c._captured_at) >= apply_orders.p_in_order_since, true)
    ),
    superseded as materialized (
        select c._line, true as _is_superseded
        from (
            select c._line, lead(c._captured_at) over by_key = c._captured_at as _is_followed_at_once
            from change as c
            join repeated as r using (order_key)
            where p_batch.is_logged and exists (select from taken)
            window by_key as (partition by c.order_key order by c._captured_at, c._line)
        ) as c
        where c._is_followed_at_once
    ),
    in_order as (
        select false as _is_repeated, 1::bigint as _number, null::text as _operation_before, null::boolean as _equals_before,
            c._line, c._operation, c._effective, c._captured_at, c.order_key, c.customer_id, c.product_id,
                c.quantity, c.unit_price, c.total_amount, c.order_status, c.order_date
        from change as c
        left join repeated as r using (order_key)
        where r._is_repeated is null
            and not (select t._are_new from taken as t)
        union all
        select true, row_number() over by_key, lag(c._operation) over by_key,
            row(c.customer_id, c.product_id, c.quantity, c.unit_price, c.total_amount, c.order_status collate "C",
                c.order_date) = lag(row(c.customer_id, c.product_id, c.quantity, c.unit_price, c.total_amount,
                c.order_status collate "C", c.order_date)) over by_key,
            c._line, c._operation, c._effective, c._captured_at, c.order_key, c.customer_id, c.product_id,
                c.quantity, c.unit_price, c.total_amount, c.order_status, c.order_date
        from change as c
        join repeated as r using (order_key)
        left join superseded as s using (_line)
        where s._is_superseded is null
            and not (select t._are_new from taken as t)
        window by_key as (partition by c.order_key order by c._captured_at, c._line)
    ),
    beside_last_version as (
        select
            case c._number when 1 then v._is_current is true else c._operation_before <> 'DELETE' end as _in_force,
            case c._number when 1 then v._is_equal else c._equals_before end as _is_equal,
            v._last_time,
            c.*
        from in_order as c
        left join lateral (
            select coalesce(h.valid_to, h.valid_from) at time zone 'UTC' as _last_time, h.is_current as _is_current,
                c.customer_id is not distinct from h.customer_id
                and c.product_id is not distinct from h.product_id and c.quantity is not distinct from h.quantity
                and c.unit_price is not distinct from h.unit_price
                and c.total_amount is not distinct from h.total_amount
                and c.order_status collate "C" is not distinct from h.order_status collate "C"
                and c.order_date is not distinct from h.order_date as _is_equal
            from public.dim_orders_history as h
            where c._number = 1 and h.order_key = c.order_key
                and c.order_key <= (select max(h.order_key) from public.dim_orders_history as h)
            order by h.valid_from desc
            limit 1
        ) as v on true
        where exists (select from taken)
    ),
    judged as materialized (
        select case c._operation when 'DELETE' then not c._in_force else c._in_force and c._is_equal end as _is_absorbed,
            c.*
        from beside_last_version as c
    ),
    shown_repeated as materialized (
        select c.*,
            first_value(c._last_time) over (partition by c.order_key order by c._number) as _stored_time
        from judged as c
        where c._is_repeated
    ),
    folded_repeated as materialized (
        select c.*,
            row_number() over by_key = 1 as _follows_stored, lead(c._takes_effect) over by_key as _ends
        from (
            select c.*, tidemark.fold_time(c._effective, c._captured_at, c._in_force, c._stored_time)
                over (partition by c.order_key order by c._number) as _takes_effect
            from shown_repeated as c
            where not c._is_absorbed
        ) as c
        window by_key as (partition by c.order_key order by c._number)
    ),
    shown as not materialized (
        select c.*,
            c._last_time as _stored_time
        from judged as c
        where not c._is_repeated
        union all
        select c.* from shown_repeated as c
    ),
    folded as not materialized (
        select c.*, tidemark._takes_effect(c._effective, c._captured_at, c._in_force, c._stored_time) as _takes_effect,
            true as _follows_stored, null::timestamptz as _ends
        from shown as c
        where not c._is_repeated and not c._is_absorbed
        union all
        select c.* from folded_repeated as c
        union all
        -- All keys are beyond those that there are, and each comes once: nothing of them is stored.
        select false, false, null, null,
            false, 1, null, null, c._line, c._operation, c._effective, c._captured_at, c.order_key, c.customer_id,
c.product_id, c.quantity, c.unit_price, c.total_amount, c.order_status, c.order_date,
            null,
            tidemark._takes_effect(c._effective, c._captured_at, false, null),
            true, null
        from change as c
        where (select t._are_new from taken as t)
    ),
    closed as (
        update public.dim_orders_history as h
        set valid_to = c._takes_effect at time zone 'UTC', is_current = c._takes_effect is null,
            updated_at = _now
        from folded as c
        where c._follows_stored and c._in_force and h.is_current and h.order_key = c.order_key
        returning c._takes_effect
    ),
    opened as (
        insert into public.dim_orders_history (
            order_key, customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date,
            valid_from, valid_to, is_current, cdc_operation, cdc_timestamp,
            batch_id, change_line, captured_at, created_at, updated_at
        )
        select
            c.order_key, c.customer_id, c.product_id, c.quantity, c.unit_price, c.total_amount, c.order_status,
            c.order_date,
            c._takes_effect at time zone 'UTC', c._ends at time zone 'UTC', c._ends is null,
            case when c._in_force then 'UPDATE' else 'INSERT' end, c._effective at time zone 'UTC',
            p_batch.batch_id, c._line, c._captured_at,
            _now, _now
        from folded as c
        -- The insert waits for the update, or the unique index on the current version would meet the old row first.
        where c._operation <> 'DELETE' and (select count(*) from closed) >= 0
        order by c._captured_at, c._line
        returning surrogate_key as _surrogate_key, change_line as _line, is_current as _is_current
    ),
    absorbed as (
        insert into tidemark.absorbed_changes (
            dimension_name, shard, batch_id, change_line, business_key,
            cdc_operation, cdc_timestamp, captured_at, reason, closed_at, change
        )
        select 'orders', p_batch.shard, p_batch.batch_id, c._line, json_build_object('order_key', c.order_key)::text,
            c._operation, c._effective, c._captured_at, c._reason, c._closed_at,
            (select row_to_json(r.*) from (
                select c.order_key as id, c.customer_id, c.product_id, c.quantity, c.unit_price, c.total_amount,
                    c.order_status::text as order_status, c.order_date,
                    c._operation as operation_type, c._effective as cdc_timestamp, c._captured_at as extracted_at
            ) as r)
        from (
            select c._line, c._operation, c._effective, c._captured_at, null::timestamptz as _closed_at,
                case c._operation when 'DELETE' then 'nothing to delete' else 'unchanged' end as _reason,
                c.order_key, c.customer_id, c.product_id, c.quantity, c.unit_price, c.total_amount, c.order_status,
                c.order_date
            from shown as c
            where c._is_absorbed
            union all
            select c._line, c._operation, c._effective, c._captured_at, c._takes_effect, 'delete',
                c.order_key, c.customer_id, c.product_id, c.quantity, c.unit_price, c.total_amount, c.order_status,
                c.order_date
            from folded as c
            where c._operation = 'DELETE'
            union all
            select c._line, c._operation, c._effective, c._captured_at, null, 'superseded',
                c.order_key, c.customer_id, c.product_id, c.quantity, c.unit_price, c.total_amount, c.order_status,
                c.order_date
            from change as c
            join superseded as s using (_line)
        ) as c
        returning 1
    )
    select
        (select count(*) from opened) as inserted_versions,
        (select count(c._takes_effect) from closed as c) + (select count(*) from opened as o where not o._is_current)
            as closed_versions,
        (select count(*) from absorbed) as absorbed_changes,
        0::bigint as corrected_versions,
        0::bigint as late_changes,
        t._change_count as change_count,
        t._first_bad_line as first_bad_line,
        t._least_captured_at as least_captured_at,
        t._greatest_captured_at as greatest_captured_at
    from taken as t;
end;
