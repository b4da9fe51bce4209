-- Two histories with the rows of the orders': one that is whole, and one in partitions by hash of the key.
create table public.dim_whole_history (like public.dim_orders_history including all);
create table public.dim_parted_history (
    like public.dim_orders_history including defaults including constraints,
    primary key (surrogate_key, order_key), unique (order_key, valid_from)
)
partition by hash (order_key);
create unique index on public.dim_parted_history (order_key) where is_current;

-- Makes so many partitions, registers both, and fills them with what bench.fill_history has put into the orders'.
create procedure bench.fill_parted(p_partitions integer)
language plpgsql
as $$
declare
    v_name text;
    v_columns text;
begin
    perform tidemark.create_partitions('public.dim_parted_history', p_partitions);
    select string_agg(quote_ident(a.attname), ', ' order by a.attnum)
    into v_columns
    from pg_attribute as a
    where a.attrelid = 'public.dim_orders_history'::regclass and a.attnum > 0 and a.attname <> 'surrogate_key';
    foreach v_name in array array['whole', 'parted'] loop
        perform tidemark.register_dimension(
            p_dimension_name => v_name, p_source_schema => 'public', p_source_table => 'orders',
            p_history_relation => format('public.dim_%s_history', v_name)::regclass,
            p_columns => (
                select json_agg(json_build_object('source', c.source_column, 'history', c.history_column, 'role', c.column_role) order by c.ordinal)
                from tidemark.dimension_columns as c
                where c.dimension_name = 'orders'
            )
        );
        insert into tidemark.batches
        select (jsonb_populate_record(b, jsonb_build_object('dimension_name', v_name))).* from tidemark.batches as b where b.dimension_name = 'orders';
        execute format(
            'insert into public.dim_%1$s_history (%2$s) select %2$s from public.dim_orders_history order by surrogate_key', v_name, v_columns
        );
    end loop;
end;
$$;

-- The keys from 1 to p_keys in four parts: as Tidemark's shards part them, which is by a hash of the key as it is printed, or so that each is
-- in partitions of its own.
create function bench.parts(p_keys integer, p_is_aligned boolean)
returns table (part integer, keys integer[])
language sql
stable
as $$
select n.part, array(
    select k
    from generate_series(1, p_keys) as k
    where case
        when p_is_aligned then satisfies_hash_partition('public.dim_parted_history'::regclass, 4, n.part, k)
        else get_byte(sha256(convert_to(k::text, 'UTF8')), 0) % 4 = n.part
    end
)
from generate_series(0, 3) as n (part);
$$;
