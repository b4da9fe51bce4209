-- Customers join, move, or rise to the next loyalty tier: one for each number from $2 to $3, and a row for each. $1 is the seed.
-- The bytes of a hash are the dice, as in change_orders.sql; customers that another transaction holds are left alone.
with names as (
    select
        '{Ada,Björn,Chiara,Dilan,Emre,Fatou,Grace,Hana,Ivo,João,Kemi,Lena}'::text[] as first_names,
        '{Abara,Brandt,Costa,Dvořák,Eriksen,Fischer,García,Hughes,Ito,O''Neill}'::text[] as last_names,
        '{Aarhus,Berlin,Kraków,Lisbon,Lyon,"São Paulo",Turin,Utrecht,Zürich}'::text[] as cities
),
turns as (
    select number, dice
    from generate_series($2::bigint, $3::bigint) as number
    cross join sha256(format('%s customer %s', $1::bigint, number)::bytea) as dice
),
chosen as (
    -- Six of ten are recent ones. Of two that change one moves, and the other keeps its city.
    select c.id, case when get_byte(dice, 0) % 2 = 0 then cities[1 + get_byte(dice, 1) % 9] end as city
    from public.customers as c
    cross join names
    cross join sha256(format('%s/%s customer %s', $1::bigint, $2::bigint, c.id)::bytea) as dice
    where c.id in (select r.id from public.customers as r order by r.id desc limit 200)
    order by dice
    limit (select count(*) from turns as t where get_byte(t.dice, 0) % 10 < 6)
    for update of c skip locked
),
changed as (
    update public.customers as c
    set city = coalesce(n.city, c.city),
        loyalty_tier = case when n.city is not null then c.loyalty_tier when c.loyalty_tier = 'basic' then 'silver' else 'gold' end,
        updated_at = now()
    from chosen as n
    where c.id = n.id
    returning c.id
),
joined as (
    -- The rest are new. Numbers go on where orders expect them; of two runs that take the same one, the second adds nobody.
    insert into public.customers (id, full_name, email, city, updated_at, created_at)
    select
        n.id,
        first_names[1 + get_byte(dice, 0) % 12] || ' ' || last_names[1 + get_byte(dice, 1) % 10],
        format('customer%s@example.com', n.id),
        cities[1 + get_byte(dice, 2) % 9],
        now(),
        now()
    from (select coalesce(max(c.id), 100) as id from public.customers as c) as last
    cross join turns
    cross join names
    cross join lateral (select (last.id + number - $2 - (select count(*) from changed) + 1)::integer as id) as n
    where n.id > last.id
    order by n.id
    on conflict (id) do nothing
    returning id
)
select id from changed
union all
select id from joined;
