create or replace function tidemark.complete_copy(
    p_dimension_name text
)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Makes the next index or constraint that a history has and its copy (tidemark.begin_partitioning) has not, and says which; false when the
-- copy has them all. Each in a transaction of its own, so that who is cut off goes on with the next one.
-- Errors: TM033 no copy was begun, or it can become none any more; and what PostgreSQL says of a rule that does not hold.
declare
    v_rule record;
begin
    perform tidemark._assert_copy_good(p_dimension_name);
    select r.* into v_rule
    from tidemark._copied_rules(p_dimension_name) as r
    where not r.is_there
    order by r.place, r.rule_name
    limit 1;
    if v_rule.rule_name is null then
        return false;
    end if;
    raise info using message = format('%s: %s is made for the copy', p_dimension_name, v_rule.rule_name);
    perform set_config('default_tablespace', coalesce(v_rule.tablespace_name, ''), true);
    execute v_rule.statement;
    return true;
end;
$$;

create or replace function tidemark._copied_rules(
    p_dimension_name text
)
returns table (
    place integer,
    rule_name text,
    finds_versions boolean,
    is_there boolean,
    tablespace_name text,
    statement text
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The constraints and indexes of a history but its checks, and the statement that makes each for its copy, under the same name. The primary
-- key has the business key in it where there are partitions, and exclusion constraints stand on each partition, as PostgreSQL 17 is the
-- first that takes one for all. Then their comments.
with copy as (
    select p.*, format('%I', n.nspname) as schema_name, n.oid as schema_oid, tidemark._finding_index(p_dimension_name) as finding_index,
        (select h.part from tidemark._history_parts(p.history_relation) as h (part) limit 1) as first_part,
        (select string_agg(quote_ident(k.column_name), ', ' order by k.place) from tidemark._key_places(p_dimension_name) as k) as keys
    from tidemark.partitionings as p
    join pg_class as c on c.oid = p.copy_relation
    join pg_namespace as n on n.oid = c.relnamespace
    where p.dimension_name = p_dimension_name
),
copied_constraint as (
    select c.copy_relation::regclass as relation, r.conname::text as name, r.conindid, r.contype,
        case
            when r.contype = 'p' and r.conkey && (
                select array_agg(a.attnum)
                from pg_attribute as a
                where a.attrelid = r.conrelid and a.attname = 'surrogate_key'
            ) then format('primary key (surrogate_key%s)', case when c.partitions > 0 then ', ' || c.keys end)
            else pg_get_constraintdef(r.oid)
        end as definition
    from copy as c
    join pg_constraint as r on r.conrelid = c.history_relation and r.conparentid = 0
    where r.contype in ('p', 'u', 'f') or (r.contype = 'x' and c.partitions = 0 and c.first_part = c.history_relation)
    union all
    select n.part, case when c.partitions > 0 then tidemark._fit_name(s.stem, '_p' || n.place - 1) else s.stem end,
        r.conindid, r.contype, pg_get_constraintdef(r.oid)
    from copy as c
    join pg_constraint as r on r.conrelid in (c.first_part, c.history_relation) and r.contype = 'x' and r.conparentid = 0
    cross join lateral (
        select case when r.conrelid = c.history_relation then r.conname::text else regexp_replace(r.conname, '_p0$', '') end as stem
    ) as s
    cross join lateral tidemark._history_parts(c.copy_relation) with ordinality as n (part, place)
    where c.partitions > 0 or c.first_part <> c.history_relation
),
copied_index as (
    select i.relname::text as name, x.indexrelid, x.indisunique, c.schema_name, format(
        'create %sindex %I on %s using %s', case when x.indisunique then 'unique ' end, i.relname, c.copy_relation,
        substr(pg_get_indexdef(x.indexrelid), length(format(
            'CREATE %sINDEX %I ON %s%s USING ', case when x.indisunique then 'UNIQUE ' end, i.relname,
            case when i.relkind = 'I' then 'ONLY ' end, c.history_relation
        )) + 1)
    ) as statement
    from copy as c
    join pg_index as x on x.indrelid = c.history_relation and x.indisvalid
    join pg_class as i on i.oid = x.indexrelid
    where not exists (select from pg_constraint as r where r.conindid = x.indexrelid and r.conrelid = c.history_relation)
),
rule as (
    select 1 as place, r.name, r.conindid as index_oid,
        exists (select from pg_constraint as n where n.conrelid = r.relation and n.conname = r.name) as is_there,
        format('alter table %s add constraint %I %s', r.relation, r.name, r.definition) as statement
    from copied_constraint as r
    union all
    select 2, i.name, i.indexrelid,
        exists (
            select from pg_class as n where n.relnamespace = c.schema_oid and n.relname = i.name and n.relkind in ('i', 'I')
        ),
        i.statement
    from copy as c
    cross join copied_index as i
)
select r.place, r.name, r.index_oid = c.finding_index, r.is_there, s.spcname::text, r.statement
from copy as c
cross join rule as r
left join pg_class as i on i.oid = r.index_oid
left join pg_tablespace as s on s.oid = i.reltablespace
union all
select 3, 'a comment on ' || k.name, false, coalesce(k.copied = k.comment, false), null, format('comment on %s is %L', k.object, k.comment)
from copy as c
cross join lateral (
    select i.name, obj_description(i.indexrelid, 'pg_class') as comment, format('index %s.%I', i.schema_name, i.name) as object,
        obj_description(to_regclass(format('%s.%I', i.schema_name, i.name)), 'pg_class') as copied
    from copied_index as i
    union all
    select r.name, obj_description(o.oid, 'pg_constraint'), format('constraint %I on %s', r.name, r.relation),
        obj_description(n.oid, 'pg_constraint')
    from copied_constraint as r
    join pg_constraint as o on o.conrelid = c.history_relation and o.conname = r.name
    left join pg_constraint as n on n.conrelid = r.relation and n.conname = r.name
) as k
where k.comment is not null;
$$;

create or replace function tidemark._analyze_copy(
    p_dimension_name text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Gathers statistics of the copy of a history, so that no plan over it begins as over an empty table.
begin
    execute format('analyze %s', (select p.copy_relation from tidemark.partitionings as p where p.dimension_name = p_dimension_name));
end;
$$;
