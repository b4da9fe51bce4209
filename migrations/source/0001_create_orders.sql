-- Up Migration

-- The operational schema of the demo, and of nothing else: a source that a user brings is never migrated.
-- The columns and their types, `timestamp` without zone among them, are those of the platform that Tidemark replaces.

create table public.orders (
    id serial primary key,
    customer_id integer not null,
    product_id integer not null,
    quantity integer not null,
    unit_price numeric(10, 2) not null,
    total_amount numeric(10, 2) not null,
    order_status varchar(50) not null,
    order_date timestamp not null,
    last_updated timestamp not null,
    created_at timestamp not null default current_timestamp
);

-- Extraction reads pages by the row comparison (last_updated, id) > (a, b). One index on both columns serves it even
-- where millions of rows share a timestamp, which an index on last_updated alone does not. The primary key already
-- is an index on id: a second one would only be paid for on every write.
create index idx_orders_last_updated_id on public.orders (last_updated, id);

comment on table public.orders is 'Orders of the demo shop: the source table whose changes are captured.';
comment on column public.orders.id is 'Identity of the order; becomes order_key in the warehouse.';
comment on column public.orders.customer_id is 'Customer who placed the order.';
comment on column public.orders.product_id is 'Product ordered.';
comment on column public.orders.quantity is 'Pieces ordered.';
comment on column public.orders.unit_price is 'Price of one piece when the order was placed.';
comment on column public.orders.total_amount is 'quantity times unit_price.';
comment on column public.orders.order_status is 'Where the order stands: pending, confirmed, shipped, delivered, refunded or cancelled.';
comment on column public.orders.order_date is 'When the customer ordered, in UTC.';
comment on column public.orders.last_updated is 'When the row last changed, in UTC; every writer sets it, extraction follows it.';
comment on column public.orders.created_at is 'When the row was inserted, in UTC.';
