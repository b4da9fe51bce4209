-- The snapshot that is compared: each load brings a copy of the table up to date; then the copy is laid beside the versions in force. What
-- differs is closed and opened at the row's own time; what is gone is closed at the time of the snapshot.
create table torture.mirror (id integer primary key, updated_at timestamptz, a text, n numeric, b text);
create table torture.versions (id integer, valid_from timestamptz, valid_to timestamptz, a text, n numeric, b text);

create function torture.load(p_load integer)
returns void
language plpgsql
as $$
declare
    v_change record;
begin
    for v_change in
        select c.operation, c.id::integer, c.updated_at::timestamptz, c.a, c.n::numeric, c.b
        from torture.changes as c
        where c.load = p_load
        order by c.line
    loop
        delete from torture.mirror as m where m.id = v_change.id;
        if v_change.operation <> 'DELETE' then
            insert into torture.mirror values (v_change.id, v_change.updated_at, v_change.a, v_change.n, v_change.b);
        end if;
    end loop;
end;
$$;

create function torture.follow(p_load integer)
returns void
language plpgsql
as $$
declare
    v_now timestamptz := (select max(c.captured_at) from torture.changes as c where c.load = p_load);
begin
    update torture.versions as v
    set valid_to = v_now
    where v.valid_to is null and not exists (select from torture.mirror as m where m.id = v.id);
    update torture.versions as v
    set valid_to = m.updated_at
    from torture.mirror as m
    where v.valid_to is null and m.id = v.id and (m.a, m.n, m.b) is distinct from (v.a, v.n, v.b);
    insert into torture.versions
    select m.id, m.updated_at, null, m.a, m.n, m.b
    from torture.mirror as m
    where not exists (select from torture.versions as v where v.id = m.id and v.valid_to is null);
end;
$$;

create view torture.history as
select id, valid_from, valid_to, a, n::text as n, b
from torture.versions;
