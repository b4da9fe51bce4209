-- Products are added, restocked or get another price: one for each number from $2 to $3, and a row for each. $1 is the seed.
-- The bytes of a hash are the dice, as in change_orders.sql; products that another transaction holds are left alone.
with names as (
    select
        '{Teapot,Desk lamp,Notebook,Backpack,Rain coat,Headphones,Bread knife,Garden chair,Kettle,Bicycle bell}'::text[] as titles,
        '{kitchen,office,garden,travel}'::text[] as categories
),
turns as (
    select number, dice
    from generate_series($2::bigint, $3::bigint) as number
    cross join sha256(format('%s product %s', $1::bigint, number)::bytea) as dice
),
chosen as (
    -- Eight of ten are recent ones. Mostly the stock moves; a price does so now and then, by a tenth at most.
    select
        p.id,
        case when get_byte(dice, 0) % 8 < 5 then 1 + get_byte(dice, 1) * 3 end as stock,
        1 + (get_byte(dice, 1) % 21 - 10) / 100.0 as factor
    from public.products as p
    cross join sha256(format('%s/%s product %s', $1::bigint, $2::bigint, p.id)::bytea) as dice
    where p.id in (select r.id from public.products as r order by r.id desc limit 200)
    order by dice
    limit (select count(*) from turns as t where get_byte(t.dice, 0) % 10 < 8)
    for update of p skip locked
),
changed as (
    update public.products as p
    set stock = coalesce(n.stock, p.stock),
        unit_price = case when n.stock is null then round(p.unit_price * n.factor, 2) else p.unit_price end,
        last_updated = now()
    from chosen as n
    where p.id = n.id
    returning p.id
),
added as (
    -- The rest are new; of two runs that take the same number, the second adds none.
    insert into public.products (id, title, category, unit_price, attributes, stock, last_updated, created_at)
    select
        n.id,
        titles[1 + get_byte(dice, 1) % 10],
        categories[1 + get_byte(dice, 2) % 4],
        n.pieces / 10.0,
        jsonb_build_object('weight_g', n.pieces),
        n.pieces,
        now(),
        now()
    from (select coalesce(max(p.id), 200) as id from public.products as p) as last
    cross join turns
    cross join names
    cross join lateral (
        select
            (last.id + number - $2 - (select count(*) from changed) + 1)::integer as id,
            1 + 3 * get_byte(dice, 3) as pieces
    ) as n
    where n.id > last.id
    order by n.id
    on conflict (id) do nothing
    returning id
)
select id from changed
union all
select id from added;
