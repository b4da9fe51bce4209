-- The snapshot that is compared: after each load the table as it then stands is laid beside the versions in force. What differs is closed and
-- opened at the row's own time; what is gone is closed at the time of the snapshot.
create table torture.mirror (id integer primary key, updated_at timestamptz, a text, n numeric);
create table torture.versions (id integer, valid_from timestamptz, valid_to timestamptz, a text, n numeric);

create function torture.load(p_load integer)
returns void
language plpgsql
as $$
declare
    v_change record;
    v_now timestamptz := (select max(c.captured_at) from torture.changes as c where c.load = p_load);
begin
    for v_change in
        select c.operation, c.id::integer, c.updated_at::timestamptz, c.a, c.n::numeric
        from torture.changes as c
        where c.load = p_load
        order by c.line
    loop
        delete from torture.mirror as m where m.id = v_change.id;
        if v_change.operation <> 'DELETE' then
            insert into torture.mirror values (v_change.id, v_change.updated_at, v_change.a, v_change.n);
        end if;
    end loop;
    update torture.versions as v
    set valid_to = v_now
    where v.valid_to is null and not exists (select from torture.mirror as m where m.id = v.id);
    update torture.versions as v
    set valid_to = m.updated_at
    from torture.mirror as m
    where v.valid_to is null and m.id = v.id and (m.a, m.n) is distinct from (v.a, v.n);
    insert into torture.versions
    select m.id, m.updated_at, null, m.a, m.n
    from torture.mirror as m
    where not exists (select from torture.versions as v where v.id = m.id and v.valid_to is null);
end;
$$;

create view torture.history as
select id, valid_from, valid_to, a, n::text as n
from torture.versions;
