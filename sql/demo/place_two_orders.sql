-- Two orders arrive, in one transaction. Their numbers are the next ones.
insert into public.orders (customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date, last_updated, created_at)
select o.customer_id, o.product_id, 1, o.price, o.price, 'pending', c.now, c.now, c.now
from (values (101, 201, 29.99), (102, 202, 49.99)) as o (customer_id, product_id, price)
cross join (select clock_timestamp() at time zone 'UTC' as now) as c
returning id;
