-- Made in the source of "--scale stream=N": its writers, and the states they commit.
create schema bench;

-- What was committed, where p_keeps_states asks for it: written by the very transactions that change the orders.
create table bench.states (
    order_id integer not null,
    last_updated timestamp not null
);

-- One writer of several: updates orders at a rate (changes a second), for some seconds, 20 to 100 rows a transaction. Each writer has keys
-- of its own among those from 1 to p_keys, so that writers wait for no lock of another one. Each transaction also updates one order, behind
-- those keys, that no other transaction touches: by that it is found again wherever it arrives (bench.commits). Where the server cannot
-- keep up with the rate it writes as fast as it can. p_changes is how many changes it made.
create procedure bench.write(
    p_writer integer,
    p_writers integer,
    p_rate double precision,
    p_seconds double precision,
    p_keys integer,
    p_first_marker integer,
    p_keeps_states boolean,
    inout p_changes integer
)
language plpgsql
as $$
declare
    v_began timestamptz := clock_timestamp();
    v_marker integer := p_first_marker + p_writer;
    v_wait double precision;
    v_rows integer;
    v_ids integer [];
begin
    p_changes := 0;
    loop
        v_wait := p_changes / p_rate - extract(epoch from clock_timestamp() - v_began);
        if v_wait > 0 then
            perform pg_sleep(v_wait);
        end if;
        exit when clock_timestamp() >= v_began + make_interval(secs => p_seconds);
        v_ids := array(
            select distinct 1 + p_writer + p_writers * floor(random() * (p_keys / p_writers))::integer
            from generate_series(1, (20 + random() * 80)::integer)
        );
        update public.orders as o
        set quantity = 1 + o.quantity % 9, total_amount = (1 + o.quantity % 9) * o.unit_price,
            order_status = case o.order_status when 'pending' then 'confirmed' when 'confirmed' then 'shipped' else 'pending' end,
            last_updated = clock_timestamp()
        where o.id = any (v_ids || v_marker);
        get diagnostics v_rows = row_count;
        if p_keeps_states then
            insert into bench.states select o.id, o.last_updated from public.orders as o where o.id = any (v_ids || v_marker);
        end if;
        commit;
        p_changes := p_changes + v_rows;
        v_marker := v_marker + p_writers;
    end loop;
end;
$$;

-- When each transaction of the writers from marker p_from on was committed.
create function bench.commits(p_from integer)
returns json
language sql
stable
as $$
select coalesce(json_agg(json_build_object('id', o.id, 'committed_at', pg_xact_commit_timestamp(o.xmin))), '[]')
from public.orders as o
where o.id >= p_from and o.last_updated > o.created_at;
$$;
