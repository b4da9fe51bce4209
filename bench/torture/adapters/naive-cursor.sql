-- The naive cursor: of each load only what is stamped after the newest stamp seen so far, in the order of stamps. It polls a table, so that it
-- sees no deletes.
create table torture.versions (id integer, valid_from timestamptz, valid_to timestamptz, a text, n numeric);
create table torture.cursor as select '-infinity'::timestamptz as watermark;

create function torture.load(p_load integer)
returns void
language plpgsql
as $$
declare
    v_change record;
begin
    for v_change in
        select c.id::integer, c.updated_at::timestamptz, c.a, c.n::numeric
        from torture.changes as c, torture.cursor as k
        where c.load = p_load and c.operation <> 'DELETE' and c.updated_at::timestamptz > k.watermark
        order by c.updated_at::timestamptz, c.line
    loop
        continue when exists (
            select
            from torture.versions as v
            where v.id = v_change.id and v.valid_to is null and (v.a, v.n) is not distinct from (v_change.a, v_change.n)
        );
        update torture.versions as v set valid_to = v_change.updated_at where v.id = v_change.id and v.valid_to is null;
        insert into torture.versions values (v_change.id, v_change.updated_at, null, v_change.a, v_change.n);
    end loop;
    update torture.cursor as k
    set watermark = greatest(k.watermark, (select max(c.updated_at::timestamptz) from torture.changes as c where c.load = p_load));
end;
$$;

create view torture.history as
select id, valid_from, valid_to, a, n::text as n
from torture.versions;
