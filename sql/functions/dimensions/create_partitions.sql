create or replace function tidemark.create_partitions(
    p_history_relation regclass,
    p_partitions integer
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Makes the partitions of a history that is partitioned by hash of its business key, <history>_p0, _p1, ..., from 2 to 1,024 of them, and
-- the one sequence that numbers the versions in all of them, <history>_surrogate_key_seq, where surrogate_key has no default yet:
-- identity columns of partitioned tables need PostgreSQL 17. Long names are shortened. Partitions are read and written through the history:
-- what default privileges grant of them is taken back, as columns that are masked there would be shown here.
-- Run once, from the migration that creates the history table, before the dimension is registered.
-- Errors: TM007 the table is not partitioned by hash, has partitions already, or that is no number of partitions.
declare
    v_schema text;
    v_table text;
    v_sequence text;
    v_part text;
    v_grantee text;
    v_fault text;
begin
    select n.nspname, c.relname,
        case
            when p.partstrat is distinct from 'h' then format('%s is not partitioned by hash', p_history_relation)
            when exists (select from pg_inherits as i where i.inhparent = c.oid)
                then format('%s has partitions already', p_history_relation)
            when p_partitions between 2 and 1024 then null
            else format('a history has from 2 to 1024 partitions, and not %s', coalesce(p_partitions::text, 'null'))
        end
    into v_schema, v_table, v_fault
    from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    left join pg_partitioned_table as p on p.partrelid = c.oid
    where c.oid = p_history_relation;
    if v_fault is not null then
        raise exception using
            errcode = 'TM007',
            message = v_fault,
            detail = format('history_table=%s partitions=%s', p_history_relation, p_partitions),
            hint = 'create the table with "partition by hash (<business key>)", and then its partitions, once';
    end if;

    if not exists (
        select
        from pg_attrdef as f
        join pg_attribute as a on a.attrelid = f.adrelid and a.attnum = f.adnum
        where f.adrelid = p_history_relation and a.attname = 'surrogate_key'
    ) then
        v_sequence := format('%I.%I', v_schema, tidemark._fit_name(v_table, '_surrogate_key_seq'));
        execute format('create sequence %s as bigint owned by %s.surrogate_key', v_sequence, p_history_relation);
        execute format('alter table %s alter column surrogate_key set default nextval(%L)', p_history_relation, v_sequence);
    end if;
    for v_number in 0 .. p_partitions - 1 loop
        v_part := format('%I.%I', v_schema, tidemark._fit_name(v_table, '_p' || v_number));
        execute format(
            'create table %s partition of %s for values with (modulus %s, remainder %s)', v_part, p_history_relation, p_partitions, v_number
        );
        for v_grantee in
            select distinct tidemark._grantee(g.grantee)
            from pg_class as c
            cross join lateral aclexplode(c.relacl) as g
            where c.oid = v_part::regclass and g.grantee <> c.relowner
        loop
            execute format('revoke all on %s from %s', v_part, v_grantee);
        end loop;
    end loop;
end;
$$;

create or replace function tidemark._fit_name(
    p_stem text,
    p_ending text
)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
-- A name made of a stem and an ending. PostgreSQL would cut it after 63 bytes; cut here, and with a part of a hash of the stem, long names
-- of one beginning stay apart, and so do endings.
select case
    when octet_length(p_stem || p_ending) <= 63 then p_stem || p_ending
    else (
        select max(left(p_stem, s.length))
        from generate_series(1, 63) as s (length)
        where octet_length(left(p_stem, s.length)) <= 54 - octet_length(p_ending)
    ) || '_' || left(md5(p_stem), 8) || p_ending
end;
$$;

create or replace function tidemark._history_parts(
    p_history_relation regclass
)
returns setof regclass
language sql
stable
rows 16
set search_path = pg_catalog, pg_temp
as $$
-- The tables that hold the rows of a history: its partitions, in the order in which they were made, or itself where it has none. Of an
-- index of it likewise: a history with partitions, and its indexes, have no size and no statistics of their own.
select p_history_relation from pg_class as c where c.oid = p_history_relation and c.relkind not in ('p', 'I')
union all
(select i.inhrelid::regclass from pg_inherits as i where i.inhparent = p_history_relation order by i.inhrelid);
$$;

create or replace function tidemark._is_partitioned(
    p_history_relation regclass
)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Whether a history has partitions.
select exists (select from pg_class as c where c.oid = p_history_relation and c.relkind = 'p');
$$;

create or replace function tidemark._is_partitioned_by(
    p_history_relation regclass,
    p_column_number smallint
)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Whether a history is partitioned by a column: its type can never be altered.
select exists (
    select from pg_partitioned_table as p where p.partrelid = p_history_relation and p_column_number = any (p.partattrs::smallint[])
);
$$;
