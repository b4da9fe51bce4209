-- The naive cursor: of each load only what is stamped after the newest stamp seen so far, in the order of stamps. It polls a table, so that it
-- sees no deletes, and notes how far it came when what it read is in.
create table torture.versions (id integer, valid_from timestamptz, valid_to timestamptz, a text, n numeric, b text);
create table torture.cursor as select '-infinity'::timestamptz as watermark;

create function torture.load(p_load integer)
returns void
language plpgsql
as $$
declare
    v_change record;
begin
    for v_change in
        select c.id::integer, c.updated_at::timestamptz, c.a, c.n::numeric, c.b
        from torture.changes as c, torture.cursor as k
        where c.load = p_load and c.operation <> 'DELETE' and c.updated_at::timestamptz > k.watermark
        order by c.updated_at::timestamptz, c.line
    loop
        continue when exists (
            select
            from torture.versions as v
            where v.id = v_change.id and v.valid_to is null and (v.a, v.n, v.b) is not distinct from (v_change.a, v_change.n, v_change.b)
        );
        update torture.versions as v set valid_to = v_change.updated_at where v.id = v_change.id and v.valid_to is null;
        insert into torture.versions values (v_change.id, v_change.updated_at, null, v_change.a, v_change.n, v_change.b);
    end loop;
end;
$$;

create function torture.follow(p_load integer)
returns void
language sql
as $$
update torture.cursor as k
set watermark = greatest(k.watermark, (select max(c.updated_at::timestamptz) from torture.changes as c where c.load = p_load));
$$;

create view torture.history as
select id, valid_from, valid_to, a, n::text as n, b
from torture.versions;
