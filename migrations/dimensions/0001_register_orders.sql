-- Up Migration
-- The dimension "orders": its history table, how to read it, and its mapping from the source.

create table public.dim_orders_history (
    surrogate_key bigint generated always as identity,
    order_key integer not null,
    customer_id integer not null,
    product_id integer not null,
    quantity integer not null,
    unit_price decimal(10, 2) not null,
    total_amount decimal(10, 2) not null,
    order_status varchar(50) not null,
    order_date timestamp not null,
    valid_from timestamp not null,
    valid_to timestamp,
    is_current boolean not null default true,
    cdc_operation varchar(10) not null,
    cdc_timestamp timestamp not null,
    batch_id varchar(100) not null,
    created_at timestamp not null default current_timestamp,
    updated_at timestamp not null default current_timestamp,
    captured_at timestamptz not null,
    change_line integer not null,
    constraint dim_orders_history_pkey primary key (surrogate_key),
    constraint dim_orders_history_one_version_a_time unique (order_key, valid_from),
    constraint dim_orders_history_valid_from_precedes_valid_to check (valid_to > valid_from),
    constraint dim_orders_history_current_has_no_end check (is_current = (valid_to is null))
);

create unique index dim_orders_history_one_current_version on public.dim_orders_history (order_key) where is_current;

comment on table public.dim_orders_history is 'Every version of every order: SCD type 2, written by tidemark.apply_batch only.';
comment on column public.dim_orders_history.surrogate_key is 'Identity of the version.';
comment on column public.dim_orders_history.order_key is 'Business key: orders.id.';
comment on column public.dim_orders_history.customer_id is 'The customer who ordered.';
comment on column public.dim_orders_history.product_id is 'The product ordered.';
comment on column public.dim_orders_history.quantity is 'How many of it.';
comment on column public.dim_orders_history.unit_price is 'Price of one.';
comment on column public.dim_orders_history.total_amount is 'Price of all.';
comment on column public.dim_orders_history.order_status is 'Where the order stands in its life.';
comment on column public.dim_orders_history.order_date is 'When it was ordered.';
comment on column public.dim_orders_history.valid_from is 'First moment at which this version was in force.';
comment on column public.dim_orders_history.valid_to is 'First moment at which it no longer was; null while it is.';
comment on column public.dim_orders_history.is_current is 'True while the version is in force.';
comment on column public.dim_orders_history.cdc_operation is 'INSERT where a life begins, else UPDATE.';
comment on column public.dim_orders_history.cdc_timestamp is 'Effective time of the change that opened the version, as the change said.';
comment on column public.dim_orders_history.batch_id is 'The batch of that change.';
comment on column public.dim_orders_history.created_at is 'When the row was written (UTC).';
comment on column public.dim_orders_history.updated_at is 'When the row was last changed (UTC).';
comment on column public.dim_orders_history.captured_at is 'Instant of the source snapshot in which the change was read.';
comment on column public.dim_orders_history.change_line is 'Line of the change in its batch, from 1.';

create view public.dim_orders_current as
select *
from public.dim_orders_history
where is_current;

comment on view public.dim_orders_current is 'The version in force of every order that exists.';

-- Also writes public.dim_orders_history_as_of, for a timestamptz and for a timestamp.
select tidemark.register_dimension(
    p_dimension_name => 'orders',
    p_source_schema => 'public',
    p_source_table => 'orders',
    p_history_relation => 'public.dim_orders_history',
    p_columns => '[
        {"source": "id",           "history": "order_key",    "role": "business key"},
        {"source": "customer_id",  "history": "customer_id",  "role": "tracked"},
        {"source": "product_id",   "history": "product_id",   "role": "tracked"},
        {"source": "quantity",     "history": "quantity",     "role": "tracked"},
        {"source": "unit_price",   "history": "unit_price",   "role": "tracked"},
        {"source": "total_amount", "history": "total_amount", "role": "tracked"},
        {"source": "order_status", "history": "order_status", "role": "tracked"},
        {"source": "order_date",   "history": "order_date",   "role": "tracked"},
        {"source": "last_updated", "history": "valid_from",   "role": "effective time"},
        {"source": "created_at",   "history": "valid_from",   "role": "insert time"}
    ]'
);
