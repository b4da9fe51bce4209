-- The row loop: each change in the order in which it comes closes the version in force at its own time, and opens another.
create table torture.versions (id integer, valid_from timestamptz, valid_to timestamptz, a text, n numeric, b text);

create function torture.load(p_load integer)
returns void
language plpgsql
as $$
declare
    v_change record;
    v_current torture.versions;
begin
    for v_change in
        select c.operation, c.id::integer, c.updated_at::timestamptz, c.a, c.n::numeric, c.b
        from torture.changes as c
        where c.load = p_load
        order by c.line
    loop
        select * into v_current from torture.versions as v where v.id = v_change.id and v.valid_to is null;
        if v_change.operation <> 'DELETE' and v_current.id is not null
            and (v_current.a, v_current.n, v_current.b) is not distinct from (v_change.a, v_change.n, v_change.b) then
            continue;
        end if;
        update torture.versions as v set valid_to = v_change.updated_at where v.id = v_change.id and v.valid_to is null;
        if v_change.operation <> 'DELETE' then
            insert into torture.versions values (v_change.id, v_change.updated_at, null, v_change.a, v_change.n, v_change.b);
        end if;
    end loop;
end;
$$;

create view torture.history as
select id, valid_from, valid_to, a, n::text as n, b
from torture.versions;
