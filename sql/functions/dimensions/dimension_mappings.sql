create or replace function tidemark.dimension_mappings()
returns table (
    dimension_name text,
    source_schema text,
    source_table text,
    history_table text,
    source_time_zone text,
    is_paused boolean,
    columns json,
    ignored_columns json,
    retired_columns json,
    history_columns json,
    deletes text,
    deleted_column text,
    deleted_values json,
    with_children boolean,
    key_is_asserted boolean,
    capture text
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Every registered dimension with its mapping, as the runner needs it to read the source: one row a dimension.
-- columns is a JSON array of {"source", "history", "role", "history_type", "can_widen"} in the order of the mapping, without those that the
-- source no longer has; history_type is the type of the history column, a domain looked through, and can_widen says whether history makes
-- it wider by itself. ignored_columns and
-- retired_columns are arrays of names of the source, history_columns one of all columns of the history table. deleted_values is a
-- JSON array, or null where any value of deleted_column that is not null means deleted.
select
    d.dimension_name, d.source_schema, d.source_table, d.history_relation::text, d.source_time_zone, d.paused_at is not null,
    json_agg(
        json_build_object(
            'source', c.source_column, 'history', c.history_column, 'role', c.column_role,
            'history_type', case
                when t.typtype = 'd' then tidemark._undomained_type(a.atttypid, a.atttypmod)
                else format_type(a.atttypid, a.atttypmod)
            end,
            -- A type without a modifier is as wide as it gets, and on most columns neither an index hangs nor a check: there is nothing
            -- to look for.
            'can_widen', case
                when t.oid is null or t.typtype = 'd' then false
                when a.atttypmod = -1 then true
                when r.relkind <> 'p' and not exists (
                    select
                    from pg_depend as x
                    where x.refclassid = 'pg_class'::regclass and x.refobjid = d.history_relation and x.refobjsubid = a.attnum
                        and x.classid = 'pg_class'::regclass
                ) and not exists (
                    select
                    from pg_constraint as k
                    where k.conrelid = d.history_relation and k.contype = 'c' and a.attnum = any (k.conkey)
                ) then true
                else coalesce(tidemark._widens_in_place(d.history_relation, a.attnum), false)
            end
        )
        order by c.ordinal
    ),
    (
        select coalesce(json_agg(i.source_column order by i.source_column), '[]')
        from tidemark.ignored_columns as i
        where i.dimension_name = d.dimension_name
    ),
    (
        select coalesce(json_agg(r.source_column order by r.ordinal), '[]')
        from tidemark.dimension_columns as r
        where r.dimension_name = d.dimension_name and r.retired_at is not null
    ),
    (
        select coalesce(json_agg(h.attname order by h.attnum), '[]')
        from pg_attribute as h
        where h.attrelid = d.history_relation and h.attnum > 0 and not h.attisdropped
    ),
    d.deletes, d.deleted_column, to_json(d.deleted_values), d.with_children, d.key_is_asserted, d.capture
from tidemark.dimensions as d
join tidemark.dimension_columns as c on c.dimension_name = d.dimension_name and c.retired_at is null
left join pg_class as r on r.oid = d.history_relation
left join pg_attribute as a on a.attrelid = d.history_relation and a.attname = c.history_column and not a.attisdropped
left join pg_type as t on t.oid = a.atttypid
group by d.dimension_name
order by d.dimension_name;
$$;

create or replace function tidemark._widens_in_place(
    p_history_relation regclass,
    p_column_number smallint
)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Whether a history column can be widened at once: the history is not partitioned by it, it has no domain, and is in no partial index,
-- index with expressions or check of more than 16 MiB. These PostgreSQL builds anew or checks again, while nobody reads the history; every
-- other index it keeps as it is.
-- Never waits for who has locked the history, for then nobody could ask for any mapping: what is locked is not measured.
select t.typtype <> 'd' and not tidemark._is_partitioned_by(a.attrelid, a.attnum) and not exists (
    select
    from pg_index as i
    where i.indrelid = a.attrelid and coalesce(i.indpred, i.indexprs) is not null and tidemark._size_unless_locked(i.indexrelid) > 16777216
        and (
            a.attnum = any (i.indkey::smallint[])
            or exists (
                select
                from pg_depend as x
                where x.classid = 'pg_class'::regclass and x.objid = i.indexrelid
                    and x.refclassid = 'pg_class'::regclass and x.refobjid = a.attrelid and x.refobjsubid = a.attnum
            )
        )
    union all
    select
    from pg_constraint as c
    where c.conrelid = a.attrelid and c.contype = 'c' and a.attnum = any (c.conkey) and tidemark._size_unless_locked(a.attrelid) > 16777216
)
from pg_attribute as a
join pg_type as t on t.oid = a.atttypid
where a.attrelid = p_history_relation and a.attnum = p_column_number;
$$;

create or replace function tidemark._size_unless_locked(
    p_relation regclass
)
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The bytes of a history or an index of it, with those of its partitions; null where somebody holds ACCESS EXCLUSIVE on one of them, or
-- waits to: measuring it would wait too.
select case when not exists (
    select
    from pg_locks as l
    where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock' and l.pid is distinct from pg_backend_pid()
        and (l.relation = p_relation or l.relation in (select p.part from tidemark._history_parts(p_relation) as p (part)))
        and l.database = (select d.oid from pg_database as d where d.datname = current_database())
) then (select sum(pg_relation_size(p.part))::bigint from tidemark._history_parts(p_relation) as p (part)) end;
$$;
