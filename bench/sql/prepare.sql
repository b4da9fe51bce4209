-- Made in the bench's own warehouse database: how its documents are written, and the contenders that are not Tidemark's.
create schema bench;

-- A batch document of some orders, as extraction writes it, for a dimension and a shard of it (null: the whole table): their p_state-th state,
-- effective p_state minutes after nine. An order that is there several times goes on to its next states. A share p_late of the changes, the
-- first, was captured 40 days and is effective 40 states before the others.
create function bench.document_of(
    p_dimension text,
    p_shard text,
    p_batch_id text,
    p_keys integer[],
    p_state integer,
    p_extracted_at timestamptz,
    p_late double precision default 0
)
returns text
language sql
stable
as $$
with line as (
    select i.place, row_to_json(r)::text as text
    from (
        select
            u.k, u.place, u.place <= p_late * cardinality(p_keys) as is_late,
            p_state + (row_number() over (partition by u.k order by u.place))::integer - 1
                - case when u.place <= p_late * cardinality(p_keys) then 40 else 0 end as state
        from unnest(p_keys) with ordinality as u (k, place)
    ) as i
    cross join lateral (
        select
            i.k as id, 100 + i.k % 1000 as customer_id, 200 + i.k % 100 as product_id, 1 + (i.k + i.state) % 9 as quantity,
            (i.k % 10000 / 100.0)::numeric(10, 2) as unit_price, ((1 + (i.k + i.state) % 9) * (i.k % 10000 / 100.0))::numeric(10, 2) as total_amount,
            (array['pending', 'confirmed', 'shipped', 'delivered'])[1 + i.state % 4] as order_status,
            timestamp '2026-02-01 09:00' as order_date,
            timestamp '2026-02-01 09:00' + make_interval(mins => i.state) + make_interval(secs => i.k / 1e6) as last_updated,
            timestamp '2026-02-01 09:00' + make_interval(secs => i.k / 1e6) as created_at,
            case when i.state = 0 then 'INSERT' else 'UPDATE' end as operation_type,
            timestamp '2026-02-01 09:00' + make_interval(mins => i.state) + make_interval(secs => i.k / 1e6) as cdc_timestamp,
            p_extracted_at - case when i.is_late then interval '40 days' else interval '0' end as extracted_at
    ) as r
),
body as (
    select string_agg(l.text, E',\n' order by l.place) as lines, count(*) as changes from line as l
)
select format(
    E'{\n"batch_metadata": %s,\n"changes": [\n%s\n]}\n',
    json_build_object(
        'batch_id', p_batch_id, 'table', p_dimension, 'shard', p_shard, 'extracted_at', p_extracted_at, 'change_count', b.changes, 'watermark', null,
        'columns', '["id","customer_id","product_id","quantity","unit_price","total_amount","order_status","order_date","last_updated","created_at"]'::json,
        'checksum', encode(sha256(convert_to(b.lines || E'\n', 'UTF8')), 'hex')
    ),
    b.lines
)
from body as b;
$$;

-- One of orders p_from to p_to; with p_keys, of as many changes to so many orders, in turn.
create function bench.document(
    p_batch_id text,
    p_from integer,
    p_to integer,
    p_state integer,
    p_extracted_at timestamptz,
    p_keys integer default null,
    p_late double precision default 0
)
returns text
language sql
stable
as $$
select bench.document_of(
    'orders', null, p_batch_id,
    array(select p_from + place % coalesce(p_keys, p_to - p_from + 1) from generate_series(0, p_to - p_from) as place),
    p_state, p_extracted_at, p_late
);
$$;

-- Contender: one row at a time, the shape of the platform that Tidemark replaces.
create function bench.apply_row_by_row(p_batch json)
returns integer
language plpgsql
as $$
declare
    v_change record;
    v_current record;
    v_batch_id text := p_batch #>> '{batch_metadata,batch_id}';
    v_versions integer := 0;
begin
    for v_change in
        select *
        from json_to_recordset(p_batch -> 'changes') as c (
            id integer, customer_id integer, product_id integer, quantity integer, unit_price numeric(10, 2), total_amount numeric(10, 2),
            order_status varchar(50), order_date timestamp, operation_type text, cdc_timestamp timestamp, extracted_at timestamptz
        )
    loop
        select * into v_current from public.dim_orders_history as h where h.order_key = v_change.id and h.is_current;
        if found and (v_current.customer_id, v_current.product_id, v_current.quantity, v_current.unit_price, v_current.total_amount, v_current.order_status)
            = (v_change.customer_id, v_change.product_id, v_change.quantity, v_change.unit_price, v_change.total_amount, v_change.order_status)
        then
            continue;
        end if;
        if found then
            update public.dim_orders_history set valid_to = v_change.cdc_timestamp, is_current = false, updated_at = now()
            where surrogate_key = v_current.surrogate_key;
        end if;
        insert into public.dim_orders_history (
            order_key, customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date,
            valid_from, is_current, cdc_operation, cdc_timestamp, batch_id, created_at, updated_at, captured_at, change_line
        )
        values (
            v_change.id, v_change.customer_id, v_change.product_id, v_change.quantity, v_change.unit_price, v_change.total_amount,
            v_change.order_status, v_change.order_date, v_change.cdc_timestamp, true, v_change.operation_type, v_change.cdc_timestamp,
            v_batch_id, now(), now(), v_change.extracted_at, 1
        );
        v_versions := v_versions + 1;
    end loop;
    return v_versions;
end;
$$;

-- Contender: a snapshot that rescans. What changed is found by joining the whole source with all current versions,
-- written to a temporary table, then closed, then opened.
create function bench.snapshot_by_rescan(p_batch_id text)
returns integer
language plpgsql
as $$
declare
    v_versions integer;
begin
    create temporary table bench_changed on commit drop as
    select s.*, h.surrogate_key as closes
    from bench.source as s
    left join public.dim_orders_history as h on h.order_key = s.id and h.is_current
    where h.order_key is null
        or (h.customer_id, h.product_id, h.quantity, h.unit_price, h.total_amount, h.order_status)
            is distinct from (s.customer_id, s.product_id, s.quantity, s.unit_price, s.total_amount, s.order_status);

    update public.dim_orders_history as h set valid_to = c.last_updated, is_current = false, updated_at = now()
    from bench_changed as c
    where c.closes = h.surrogate_key;

    insert into public.dim_orders_history (
        order_key, customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date,
        valid_from, is_current, cdc_operation, cdc_timestamp, batch_id, created_at, updated_at, captured_at, change_line
    )
    select c.id, c.customer_id, c.product_id, c.quantity, c.unit_price, c.total_amount, c.order_status, c.order_date,
        c.last_updated, true, 'UPDATE', c.last_updated, p_batch_id, now(), now(), now(), 1
    from bench_changed as c;
    get diagnostics v_versions = row_count;
    return v_versions;
end;
$$;

-- Floors: what PostgreSQL itself needs for the same JSON and the same rows of a table with the same indexes; no comparison, no ledger, no checks.
create table bench.plain (like public.dim_orders_history including all);

-- Reads changes, and gives back how many there are.
create function bench.plain_read(p_changes json)
returns bigint
language sql
volatile
as $$
select count(*) filter (where c.* is not null)
from json_to_recordset(p_changes) as c (
    id integer, customer_id integer, product_id integer, quantity integer, unit_price numeric(10, 2), total_amount numeric(10, 2),
    order_status varchar(50), order_date timestamp, last_updated timestamp, created_at timestamp, operation_type text,
    cdc_timestamp timestamp, extracted_at timestamptz
);
$$;

-- Opens a version of each change; before that, with p_closes, closes the one in force.
create function bench.plain_apply(p_changes json, p_batch_id text, p_closes boolean)
returns void
language plpgsql
as $$
begin
    if p_closes then
        update bench.plain as h
        set valid_to = c.cdc_timestamp, is_current = false, updated_at = now()
        from json_to_recordset(p_changes) as c (id integer, cdc_timestamp timestamp)
        where h.order_key = c.id and h.is_current;
    end if;
    insert into bench.plain (
        order_key, customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date,
        valid_from, is_current, cdc_operation, cdc_timestamp, batch_id, created_at, updated_at, captured_at, change_line
    )
    select c.id, c.customer_id, c.product_id, c.quantity, c.unit_price, c.total_amount, c.order_status, c.order_date,
        c.cdc_timestamp, true, c.operation_type, c.cdc_timestamp, p_batch_id, now(), now(), c.extracted_at, row_number() over ()
    from json_to_recordset(p_changes) as c (
        id integer, customer_id integer, product_id integer, quantity integer, unit_price numeric(10, 2), total_amount numeric(10, 2),
        order_status varchar(50), order_date timestamp, operation_type text, cdc_timestamp timestamp, extracted_at timestamptz
    );
end;
$$;

-- Another dimension of the same orders, with a history of its own that is empty; one that is there stays as it is.
create function bench.register_copy(p_name text)
returns void
language plpgsql
as $$
begin
    if exists (select from tidemark.dimensions as d where d.dimension_name = p_name) then
        return;
    end if;
    execute format('create table public.%I (like public.dim_orders_history including all)', format('dim_%s_history', p_name));
    perform tidemark.register_dimension(
        p_name, 'public', 'orders', format('public.dim_%s_history', p_name)::regclass,
        (
            select json_agg(json_build_object('source', c.source_column, 'history', c.history_column, 'role', c.column_role) order by c.ordinal)
            from tidemark.dimension_columns as c where c.dimension_name = 'orders'
        )
    );
end;
$$;

-- A dimension wide_<p_columns> with so many tracked columns, half of them numbers and half texts, and its empty history.
create function bench.register_wide(p_columns integer)
returns void
language plpgsql
as $$
declare
    v_tracked text := (select string_agg(format('c%s %s', i, (array['text', 'integer'])[1 + i % 2]), ', ' order by i) from generate_series(1, p_columns) as i);
begin
    execute format('create table public.dim_wide_%s_history (like public.dim_orders_history including all)', p_columns);
    execute format(
        'alter table public.dim_wide_%s_history drop customer_id, drop product_id, drop quantity, drop unit_price, drop total_amount, drop order_status, drop order_date%s',
        p_columns, (select string_agg(format(', add %s', c), '') from unnest(string_to_array(v_tracked, ', ')) as c)
    );
    perform tidemark.register_dimension(
        format('wide_%s', p_columns), 'public', format('wide_%s', p_columns), format('public.dim_wide_%s_history', p_columns)::regclass,
        (
            select json_agg(m.mapping order by m.ordinal)
            from (
                select 0, '{"source": "id", "history": "order_key", "role": "business key"}'::json
                union all
                select i, json_build_object('source', format('c%s', i), 'history', format('c%s', i), 'role', 'tracked') from generate_series(1, p_columns) as i
                union all
                select p_columns + 1, '{"source": "last_updated", "history": "valid_from", "role": "effective time"}'
            ) as m (ordinal, mapping)
        )
    );
end;
$$;

-- A batch document of such a dimension: orders p_from to p_to, their p_state-th state, of which a tenth of the columns tells.
create function bench.wide_document(p_columns integer, p_batch_id text, p_from integer, p_to integer, p_state integer, p_extracted_at timestamptz)
returns text
language plpgsql
as $$
declare
    v_lines text;
begin
    execute format(
        $q$
        select string_agg(row_to_json(r)::text, E',\n' order by r.id)
        from (
            select k as id, %s, timestamp '2026-02-01 09:00' + make_interval(mins => $3) as last_updated, 'UPDATE' as operation_type,
                timestamp '2026-02-01 09:00' + make_interval(mins => $3) as cdc_timestamp, $4 as extracted_at
            from generate_series($1, $2) as k
        ) as r
        $q$,
        (
            select string_agg(
                format(case when i % 2 = 1 then '(k + %1$s + %2$s) as c%1$s' else 'format(''text %%s'', k + %1$s + %2$s) as c%1$s' end, i, case when i % 10 = 1 then '$3' else '0' end),
                ', ' order by i
            )
            from generate_series(1, p_columns) as i
        )
    ) into v_lines using p_from, p_to, p_state, p_extracted_at;
    return format(
        E'{\n"batch_metadata": %s,\n"changes": [\n%s\n]}\n',
        json_build_object(
            'batch_id', p_batch_id, 'table', format('wide_%s', p_columns), 'extracted_at', p_extracted_at, 'change_count', p_to - p_from + 1, 'watermark', null,
            'columns', (select json_agg(c.name) from (select 'id' union all select format('c%s', i) from generate_series(1, p_columns) as i union all select 'last_updated') as c (name)),
            'checksum', encode(sha256(convert_to(v_lines || E'\n', 'UTF8')), 'hex')
        ),
        v_lines
    );
end;
$$;

-- Fills history and ledger as if p_keys orders had arrived and moved on p_states - 1 times, in batches of 10,000 changes; the fast
-- way, no contender. Every check passes on it.
create procedure bench.fill_history(p_keys bigint, p_states integer)
language plpgsql
as $$
begin
    truncate tidemark.batches, public.dim_orders_history restart identity cascade;
    insert into tidemark.batches (
        dimension_name, batch_id, extracted_at, least_captured_at, greatest_captured_at, change_count, checksum, metadata, inserted_versions, closed_versions, absorbed_changes,
        apply_started_at, applied_at
    )
    select 'orders', format('changes_20260201_%s_000', lpad(b::text, 6, '0')), '2026-02-02 00:00+00', '2026-02-02 00:00+00', '2026-02-02 00:00+00', n.changes, 'bench', '{}', n.changes, 0, 0, now(), now()
    from generate_series(0, (p_keys * p_states - 1) / 10000) as b
    cross join lateral (select least(10000, p_keys * p_states - b * 10000) as changes) as n;
    insert into public.dim_orders_history (
        order_key, customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date,
        valid_from, valid_to, is_current, cdc_operation, cdc_timestamp, batch_id, created_at, updated_at, captured_at, change_line
    )
    select k, 100 + k % 1000, 200 + k % 100, 1 + (k + s) % 9, (k % 10000 / 100.0)::numeric(10, 2), ((1 + (k + s) % 9) * (k % 10000 / 100.0))::numeric(10, 2),
        (array['pending', 'confirmed', 'shipped', 'delivered'])[1 + s % 4], '2026-02-01 09:00',
        timestamp '2026-02-01 09:00' + make_interval(mins => s) + make_interval(secs => k / 1e6),
        case when s < p_states - 1 then timestamp '2026-02-01 09:00' + make_interval(mins => s + 1) + make_interval(secs => k / 1e6) end,
        s = p_states - 1, case when s = 0 then 'INSERT' else 'UPDATE' end,
        timestamp '2026-02-01 09:00' + make_interval(mins => s) + make_interval(secs => k / 1e6),
        format('changes_20260201_%s_000', lpad((n.place / 10000)::text, 6, '0')), now(), now(), '2026-02-02 00:00+00', 1 + n.place % 10000
    from generate_series(0, p_states - 1) as s
    cross join generate_series(1, p_keys) as k
    cross join lateral (select s * p_keys + k - 1 as place) as n;
    analyze public.dim_orders_history;
end;
$$;
