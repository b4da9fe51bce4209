-- A day of work on any table: one row is changed, one deleted, and one comes in with a key of its own, whatever the table's columns are.
-- Foreign keys and unique indexes beside the key are out of its way; they are the application's concern.
create function pg_temp.change_table(
    p_table regclass,
    p_key text[],
    p_time text
)
returns void
language plpgsql
as $$
-- p_key: the columns of the business key; p_time: the column that says when a row changed, which an application touches; null for none.
declare
    v_column record;
    v_new_key text;
begin
    -- Of a column that an application may change: another value of its type.
    select
        a.attname,
        case
            when t.typcategory = 'N' then format('coalesce(%I, 0) + 1', a.attname)
            when t.typcategory = 'B' then format('not coalesce(%I, false)', a.attname)
            when t.typcategory = 'D' then format('coalesce(%I, localtimestamp) + interval ''1 day''', a.attname)
            when t.typname in ('text', 'varchar', 'bpchar') and a.atttypmod = -1 then format('coalesce(%I, '''') || ''~''', a.attname)
            when t.typname in ('text', 'varchar', 'bpchar') then format('left(reverse(coalesce(%I, '''') || ''~''), %s)', a.attname,
                a.atttypmod - 4)
        end as changed
    into v_column
    from pg_catalog.pg_attribute as a
    join pg_catalog.pg_type as t on t.oid = a.atttypid
    where a.attrelid = p_table and a.attnum > 0 and not a.attisdropped and t.typtype = 'b'
        and a.attname <> all (p_key) and a.attname is distinct from p_time
        and a.attname !~* '(create|delete|insert)' and t.typcategory in ('N', 'B', 'D', 'S')
    order by t.typcategory = 'D', a.attnum
    limit 1;

    if v_column.attname is not null then
        execute format(
            'update %s set %I = %s%s where (tableoid, ctid) = (select tableoid, ctid from %1$s order by 1 desc, 2 desc limit 1)',
            p_table, v_column.attname, v_column.changed, case when p_time is null then '' else format(', %I = clock_timestamp()',
                p_time) end
        );
    end if;

    select format(
        '%L, %s', a.attname,
        case
            when t.typcategory = 'N' then format('(n.%I + 100)', a.attname)
            when t.typcategory = 'D' then format('(n.%I + interval ''1 day'')', a.attname)
            when t.typname = 'uuid' then 'gen_random_uuid()'
            when a.atttypmod = -1 then format('(n.%I || ''~'')', a.attname)
            else format('left(''~'' || n.%I, %s)', a.attname, a.atttypmod - 4)
        end
    )
    into v_new_key
    from pg_catalog.pg_attribute as a
    join pg_catalog.pg_type as t on t.oid = a.atttypid
    where a.attrelid = p_table and a.attname = any (p_key)
    order by a.attnum
    limit 1;
    execute format(
        'insert into %1$s overriding system value select (jsonb_populate_record(null::%1$s, '
        'to_jsonb(n) || jsonb_build_object(%2$s%3$s))).* '
        'from %1$s as n limit 1 on conflict do nothing',
        p_table, v_new_key, case when p_time = any (p_key) or p_time is null then '' else format(', %L, clock_timestamp()', p_time) end
    );
    execute format('delete from %s where (tableoid, ctid) = (select tableoid, ctid from %1$s order by 1, 2 limit 1)', p_table);
end;
$$;
