-- An order moves on. $1 its number, $2 its status from now on.
update public.orders
set order_status = $2, last_updated = clock_timestamp() at time zone 'UTC'
where id = $1::integer;
