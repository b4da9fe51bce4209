-- Order 1 is confirmed at ten past nine, unless it has moved on.
update public.orders
set order_status = 'confirmed', last_updated = '2026-02-01 09:10'
where id = 1 and order_status = 'pending' and last_updated < '2026-02-01 09:10';
