-- The merge on the latest: of each load the newest change of a key by its stamp, merged into the versions in force where it is newer than they are.
create table torture.versions (id integer, valid_from timestamptz, valid_to timestamptz, a text, n numeric, b text);

create function torture.load(p_load integer)
returns void
language sql
as $$
with latest as (
    select distinct on (c.id) c.operation, c.id::integer as id, c.updated_at::timestamptz as updated_at, c.a, c.n::numeric as n, c.b
    from torture.changes as c
    where c.load = p_load
    order by c.id, c.updated_at::timestamptz desc, c.line desc
),
fresh as (
    select l.*
    from latest as l
    left join torture.versions as v on v.id = l.id and v.valid_to is null
    where v.id is null
        or l.updated_at > v.valid_from and (l.operation = 'DELETE' or (l.a, l.n, l.b) is distinct from (v.a, v.n, v.b))
),
closed as (
    update torture.versions as v set valid_to = f.updated_at from fresh as f where f.id = v.id and v.valid_to is null
)
insert into torture.versions
select f.id, f.updated_at, null, f.a, f.n, f.b
from fresh as f
where f.operation <> 'DELETE';
$$;

create view torture.history as
select id, valid_from, valid_to, a, n::text as n, b
from torture.versions;
