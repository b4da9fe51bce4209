-- Whether values of a type that are equal to an index also print alike, or are made to by tidemark._key_member: what a key needs,
-- because versions are found by the one and absorbed changes by the other. False for interval ('1 day', '24:00'), jsonb (1, 1.0),
-- citext, composites, containers of such types or of numerics, floats and char(n), and for collations that are not deterministic.
create or replace function tidemark._is_printed_as_equal(
    p_type_id oid,
    p_collation_id oid
)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
with recursive part as (
    select p_type_id as type_id, false as is_contained
    union
    select i.inner_id, p.is_contained or t.typtype <> 'd'
    from part as p
    join pg_type as t on t.oid = p.type_id
    left join pg_range as r on t.oid in (r.rngtypid, r.rngmultitypid)
    cross join lateral (
        select case
            when t.typtype = 'd' then t.typbasetype
            when t.typcategory = 'A' then t.typelem
            else r.rngsubtype
        end as inner_id
    ) as i
    where i.inner_id <> 0
)
select not exists (
    select
    from part as p
    join pg_type as t on t.oid = p.type_id
    where t.typtype = 'c' or t.typname = 'citext' or t.oid in ('interval'::regtype, 'jsonb'::regtype)
        or (p.is_contained and t.oid in ('numeric'::regtype, 'real'::regtype, 'double precision'::regtype, 'bpchar'::regtype))
)
and not exists (select from pg_collation as c where c.oid = p_collation_id and not c.collisdeterministic);
$$;
