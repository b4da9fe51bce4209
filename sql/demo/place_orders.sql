-- Places those of the sample orders that are asked for and not there yet; one row for each that was placed.
-- $1 the sample as CSV, with the columns of public.orders in their order below a line of their names, $2 the numbers of the orders.
-- The simulator's orders go on after them: the sequence is taken along.
with placed as (
    insert into public.orders
    select
        o[1]::integer, o[2]::integer, o[3]::integer, o[4]::integer, o[5]::numeric, o[6]::numeric, o[7], o[8]::timestamp, o[9]::timestamp,
        o[10]::timestamp
    from string_to_table($1::text, E'\n') with ordinality as lines (line, number)
    cross join string_to_array(line, ',') as o
    where number > 1 and o[1] = any ($2::text[])
    order by number
    on conflict (id) do nothing
    returning id
)
select setval('public.orders_id_seq', greatest(p.id, (select last_value from public.orders_id_seq)))
from placed as p
order by p.id;
