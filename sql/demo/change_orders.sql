-- One statement of a simulated transaction: recent orders are edited and move on, new ones are placed.
-- $1 seed, $2 number of the transaction in its run, $3 number of the statement in its transaction, $4 how many orders it may write.
-- The bytes of a hash are the dice: the same seed on the same data makes the same orders, on every version of PostgreSQL.
-- Orders that another transaction holds are left alone, so that nobody waits and nothing deadlocks. None is ever deleted.
with life_cycle (order_status, next_status, least, most) as (
    -- Where an order goes from each status, by a throw from 0 to 15; where none fits, it stays. From pending to pending it is edited.
    values
        ('pending', 'pending', 0, 3),
        ('pending', 'confirmed', 4, 14),
        ('pending', 'cancelled', 15, 15),
        ('confirmed', 'shipped', 0, 13),
        ('confirmed', 'cancelled', 14, 15),
        ('shipped', 'delivered', 0, 15),
        ('delivered', 'refunded', 0, 0)
),
prices (product_id, unit_price) as (
    values
        (201, 29.99), (202, 49.99), (203, 19.99), (204, 5.49), (205, 12.00),
        (206, 249.00), (207, 0.99), (208, 89.95), (209, 34.50), (210, 1299.00)
),
statement as materialized (
    -- Mostly it writes few orders, now and then many; seven of ten are orders that are there. All statements of a transaction stamp alike.
    select
        seed,
        size,
        (size * 7 + get_byte(dice, 1) % 10) / 10 as updates,
        get_byte(dice, 2) % 2 = 0 and size < $4::bigint as goes_on,
        get_byte(sha256(format('%s/%s', $1::bigint, $2::bigint)::bytea), 0) % 2 = 0 as has_one_stamp
    from format('%s/%s/%s', $1::bigint, $2::bigint, $3::bigint) as seed
    cross join sha256(seed::bytea) as dice
    cross join least((array[1, 1, 1, 1, 2, 2, 3, 20])[1 + get_byte(dice, 0) % 8], $4::bigint) as size
),
chosen as (
    -- Only recent orders change, as in a shop; so the choice costs the same however large the table is. Half of those that this
    -- transaction has written already come first.
    select
        o.id,
        l.next_status,
        case when l.next_status = o.order_status then 1 + (o.quantity + get_byte(dice, 2) % 4) % 5 else o.quantity end as quantity
    from public.orders as o
    cross join statement as s
    cross join sha256(format('%s order %s', s.seed, o.id)::bytea) as dice
    join life_cycle as l on l.order_status = o.order_status and get_byte(dice, 0) % 16 between l.least and l.most
    where o.id in (select r.id from public.orders as r order by r.id desc limit 200)
    order by o.xmin = pg_current_xact_id()::xid and get_byte(dice, 1) % 2 = 0 desc, dice
    limit (select updates from statement)
    for update of o skip locked
),
updated as (
    update public.orders as o
    set order_status = c.next_status,
        quantity = c.quantity,
        total_amount = c.quantity * o.unit_price,
        last_updated = case when s.has_one_stamp then now() else clock_timestamp() end
    from chosen as c
    cross join statement as s
    where o.id = c.id
    returning o.id
),
placed as (
    -- As many as are left: all, where no order is there to change.
    insert into public.orders (
        customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date, last_updated, created_at
    )
    select n.customer_id, p.product_id, n.quantity, p.unit_price, n.quantity * p.unit_price, 'pending', n.at, n.at, n.at
    from (
        select
            number,
            101 + get_byte(dice, 0) % 50 as customer_id,
            201 + get_byte(dice, 1) % 10 as product_id,
            1 + get_byte(dice, 2) % 5 as quantity,
            case when s.has_one_stamp then now() else clock_timestamp() end as at
        from statement as s
        cross join generate_series(1, s.size - (select count(*) from updated)) as number
        cross join sha256(format('%s new %s', s.seed, number)::bytea) as dice
    ) as n
    join prices as p on p.product_id = n.product_id
    order by n.number
    returning id
)
select (select count(*) from placed)::integer as inserted, (select count(*) from updated)::integer as updated, s.goes_on
from statement as s;
