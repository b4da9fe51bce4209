-- An order is deleted. $1 its number.
delete from public.orders
where id = $1::integer;
