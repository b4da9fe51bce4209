create or replace function tidemark._distribution_of(
    p_history_relation regclass,
    out column_name text,
    out column_type text,
    out copies integer
)
returns record
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- How Citus distributes a table: the column by whose hash it does, its type, and how many nodes have the rows of a shard. Nulls where the
-- table is a plain one, or there is no Citus. Asks the catalog of Citus by text, as a plain PostgreSQL has none.
begin
    if to_regclass('pg_catalog.pg_dist_partition') is null then
        return;
    end if;
    execute $query$
        select a.attname, format_type(a.atttypid, a.atttypmod), (
            select max(n.copies)
            from (
                select count(*)::integer as copies
                from pg_catalog.pg_dist_shard as s
                join pg_catalog.pg_dist_placement as l on l.shardid = s.shardid
                where s.logicalrelid = p.logicalrelid
                group by s.shardid
            ) as n
        )
        from pg_catalog.pg_dist_partition as p
        join pg_attribute as a
            on a.attrelid = p.logicalrelid and a.attname = column_to_column_name(p.logicalrelid, p.partkey)
        where p.logicalrelid = $1 and p.partmethod = 'h'
    $query$
    into column_name, column_type, copies using p_history_relation;
end;
$$;

create or replace function tidemark._distributed_by(
    p_dimension_name text
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The column of a history by whose hash Citus distributes it, as registered; null where it is a plain table.
select d.distributed_by from tidemark.dimensions as d where d.dimension_name = p_dimension_name;
$$;

create or replace function tidemark._distribution_faults(
    p_dimension_name text
)
returns setof text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Why a history cannot be distributed as its registration says (p_distributed_by); no row: it can, or is a plain table and meant to be.
with dimension as (
    select d.history_relation, d.distributed_by, n.column_name, n.copies,
        exists (select from pg_extension as e where e.extname = 'citus') as has_citus,
        exists (
            select
            from tidemark.dimension_columns as c
            where c.dimension_name = d.dimension_name and c.column_role = 'business key' and c.history_column = d.distributed_by
        ) as is_of_the_key
    from tidemark.dimensions as d
    cross join lateral tidemark._distribution_of(d.history_relation) as n
    where d.dimension_name = p_dimension_name
)
select case
    when d.distributed_by is null and d.column_name is not null then format(
        'history table %s is distributed by %s, of which its registration says nothing: give p_distributed_by => %L',
        d.history_relation, d.column_name, d.column_name
    )
    when d.distributed_by is null then null
    when not d.has_citus then format(
        'the history is to be distributed by %s, and the warehouse has no Citus: create extension citus, or leave p_distributed_by out',
        d.distributed_by
    )
    when not d.is_of_the_key then format(
        'the history is to be distributed by %s, which is no column of its business key: all versions of a key must be in one shard',
        d.distributed_by
    )
    when tidemark._is_partitioned(d.history_relation) then format(
        'history table %s is partitioned: one that is distributed is a plain table, parted by its shards', d.history_relation
    )
    when d.column_name is null then format(
        'history table %s is not distributed: first, select create_distributed_table(%L, %L)',
        d.history_relation, d.history_relation, d.distributed_by
    )
    when d.column_name <> d.distributed_by then format(
        'history table %s is distributed by %s, and not by %s', d.history_relation, d.column_name, d.distributed_by
    )
    when d.copies > 1 then format(
        'history table %s has its shards on %s nodes each: set citus.shard_replication_factor to 1 before it is distributed',
        d.history_relation, d.copies
    )
end
from dimension as d;
$$;
