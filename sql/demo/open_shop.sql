-- Three customers and three products, so that several tables flow; one row for each that was not there yet.
-- Their history is as short as that of a shop that opens today.
with customers as (
    insert into public.customers (id, full_name, email, city, loyalty_tier, updated_at, created_at)
    select c.*, '2026-02-01 08:00+00', '2026-02-01 08:00+00'
    from (values
        (101, 'Ada Brandt', 'ada@example.com', 'Berlin', 'gold'),
        (102, 'João Costa', 'joao@example.com', 'Lisbon', 'basic'),
        (103, 'Hana Ito', 'hana@example.com', null, 'silver')
    ) as c (id, full_name, email, city, loyalty_tier)
    on conflict (id) do nothing
    returning id
),
products as (
    insert into public.products (id, title, category, unit_price, attributes, stock, last_updated, created_at)
    select p.id, p.title, p.category, p.unit_price, p.attributes::jsonb, p.stock, '2026-02-01 08:00+00', '2026-02-01 08:00+00'
    from (values
        (201, 'Teapot', 'kitchen', 29.99, '{"colour": "white"}', 40),
        (202, 'Desk lamp', 'office', 49.99, '{}', 12),
        (203, 'Notebook', 'office', 19.99, '{"pages": 120}', 300)
    ) as p (id, title, category, unit_price, attributes, stock)
    on conflict (id) do nothing
    returning id
)
select id from customers
union all
select id from products;
