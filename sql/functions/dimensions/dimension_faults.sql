create or replace function tidemark.dimension_faults(
    p_dimension_name text
)
returns table (
    place integer,
    fault text
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Why a registered mapping and its history table cannot serve apply_batch; no row: they can. The roles are complete, the columns are
-- there, equal keys print alike, and the table defends itself: unique indexes for one current version and one version a time, and
-- two checks. It may be partitioned, by hash of the business key alone. Read by tidemark._assert_dimension_fits, and by the check that
-- finds a history that has lost its defences since.
with dimension as (
    select d.history_relation, d.effective_time, d.capture from tidemark.dimensions as d where d.dimension_name = p_dimension_name
),
mapping as (
    select c.* from tidemark.dimension_columns as c where c.dimension_name = p_dimension_name
),
needed (history_column) as (
    select m.history_column from mapping as m
    union
    select unnest(array[
        'surrogate_key', 'valid_from', 'valid_to', 'is_current', 'cdc_operation', 'cdc_timestamp',
        'batch_id', 'created_at', 'updated_at', 'captured_at', 'change_line'
    ])
),
present as (
    select a.attname::text as history_column, a.attnum, a.atttypid, a.attcollation
    from dimension as d
    join pg_attribute as a on a.attrelid = d.history_relation
    where a.attnum > 0 and not a.attisdropped
),
key_columns as (
    select array_agg(p.attnum order by p.attnum) as attnums
    from mapping as m
    join present as p using (history_column)
    where m.column_role = 'business key'
),
unique_keys as (
    select
        (
            select array_agg(k.attnum order by k.attnum = v.attnum, k.attnum)
            from unnest(i.indkey::smallint[]) with ordinality as k (attnum, place)
            where k.place <= i.indnkeyatts
        ) as attnums,
        i.indkey[i.indnkeyatts - 1] = v.attnum as ends_with_valid_from,
        pg_get_expr(i.indpred, i.indrelid) as predicate
    from dimension as d
    join pg_index as i on i.indrelid = d.history_relation
    left join present as v on v.history_column = 'valid_from'
    where i.indisunique and i.indisvalid
),
faults (place, fault) as (
    select 1, 'the mapping has no business key' where not exists (select from mapping where column_role = 'business key')
    union all
    select 2, 'the mapping needs one effective time, mapped to valid_from'
    from dimension as d
    where d.effective_time = 'column'
        and 1 <> (select count(*) from mapping where column_role = 'effective time' and history_column = 'valid_from')
    union all
    select 2, format('the effective time is that of the capture: column %s can be none, nor an insert time', m.source_column)
    from dimension as d
    cross join mapping as m
    where d.effective_time = 'capture' and m.column_role in ('effective time', 'insert time')
    union all
    select 2, 'the effective time is that of the capture, which is an instant: valid_from must be timestamptz'
    from dimension as d
    cross join present as p
    where d.effective_time = 'capture' and p.history_column = 'valid_from' and p.atttypid <> 'timestamptz'::regtype
    union all
    select 3, 'the mapping has two insert times, or one that is not mapped to valid_from'
    from mapping where column_role = 'insert time' having count(*) > 1 or bool_or(history_column <> 'valid_from')
    union all
    select 4, format(
        'history column %s cannot be a key: of its type or collation, values can be equal that are printed apart (%s)',
        p.history_column, format_type(p.atttypid, null)
    )
    from mapping as m
    join present as p using (history_column)
    -- "case": of a key alone, or it is asked of every column before they are told apart.
    where case when m.column_role = 'business key' then not tidemark._is_printed_as_equal(p.atttypid, p.attcollation) end
    union all
    select 5, format('source column %s has a name that batch files use for themselves', m.source_column)
    from mapping as m where m.source_column in ('operation_type', 'cdc_timestamp', 'extracted_at')
    union all
    select 5, format('source column %s has a name that lines of the log use for themselves', m.source_column)
    from dimension as d
    cross join mapping as m
    where d.capture <> 'poll' and m.source_column in ('unchanged', 'unchanged_of')
    union all
    select 6, format('history table %s has no column %s', d.history_relation, n.history_column)
    from dimension as d cross join needed as n where n.history_column not in (select p.history_column from present as p)
    union all
    select 7, format('two source columns are mapped to history column %s', m.history_column)
    from mapping as m
    where m.column_role in ('business key', 'tracked', 'untracked')
    group by m.history_column having count(*) > 1
    union all
    select 7, format('source column %s is both %s and a time: only a key can be', m.source_column, m.column_role)
    from mapping as m
    where m.column_role in ('tracked', 'untracked') and exists (
        select from mapping as t where t.source_column = m.source_column and t.column_role in ('effective time', 'insert time')
    )
    union all
    select 8, format('history column %s is Tidemark''s own and cannot take a source column', m.history_column)
    from mapping as m
    where m.column_role in ('business key', 'tracked', 'untracked') and m.history_column in (
        'surrogate_key', 'valid_from', 'valid_to', 'is_current', 'cdc_operation', 'cdc_timestamp',
        'batch_id', 'created_at', 'updated_at', 'captured_at', 'change_line'
    )
    union all
    select 9, 'valid_from, valid_to and cdc_timestamp must all be timestamp, or all timestamptz'
    from present as p
    where p.history_column in ('valid_from', 'valid_to', 'cdc_timestamp')
    having min(p.atttypid) <> max(p.atttypid)
        or bool_or(p.atttypid not in ('timestamp'::regtype, 'timestamptz'::regtype))
    union all
    select 10, format('history table %s has no unique (business key, valid_from)', d.history_relation)
    from dimension as d
    where not exists (
        select from unique_keys as u, key_columns as k, present as p
        where u.predicate is null and p.history_column = 'valid_from' and u.ends_with_valid_from
            and u.attnums = k.attnums || p.attnum
    )
    union all
    select 11, format('history table %s has no unique (business key) where is_current', d.history_relation)
    from dimension as d
    where not exists (
        select from unique_keys as u, key_columns as k where u.predicate = 'is_current' and u.attnums = k.attnums
    )
    union all
    select 12, format('history table %s has no check (%s)', d.history_relation, r.rule)
    from dimension as d cross join (values ('valid_to > valid_from'), ('is_current = (valid_to is null)')) as r (rule)
    where not exists (
        select
        from pg_constraint as c
        where c.conrelid = d.history_relation and c.contype = 'c' and c.convalidated
            and lower(pg_get_expr(c.conbin, c.conrelid)) = format('(%s)', r.rule)
    )
    union all
    select 0, format('history table %s is %s', d.history_relation, case
        when h.relkind <> 'p' then 'no table: it must be one, plain or partitioned by hash of the business key'
        else 'not partitioned by hash of the business key: create it with "partition by hash (' || (
            select string_agg(quote_ident(m.history_column), ', ' order by m.ordinal) from mapping as m where m.column_role = 'business key'
        ) || ')"'
    end)
    from dimension as d
    join pg_class as h on h.oid = d.history_relation
    left join pg_partitioned_table as p on p.partrelid = h.oid
    where h.relkind not in ('r', 'p') or (
        h.relkind = 'p' and (
            p.partstrat <> 'h'
            or (select array_agg(k.attnum order by k.attnum) from unnest(p.partattrs::smallint[]) as k (attnum))
                is distinct from (select k.attnums from key_columns as k)
        )
    )
    union all
    select 13, format('partition %s of the history is partitioned itself, or no table of this database', c.oid::regclass)
    from dimension as d
    join pg_inherits as i on i.inhparent = d.history_relation
    join pg_class as c on c.oid = i.inhrelid
    where c.relkind <> 'r'
    union all
    select 14, format(
        'history table %s lacks partitions, so that some keys have no place: make them with tidemark.create_partitions', d.history_relation
    )
    from dimension as d
    join pg_partitioned_table as p on p.partrelid = d.history_relation and p.partstrat = 'h'
    where (
        select coalesce(sum(1024.0 / substring(pg_get_expr(c.relpartbound, c.oid) from 'modulus (\d+)')::numeric), 0)
        from pg_inherits as i
        join pg_class as c on c.oid = i.inhrelid
        where i.inhparent = d.history_relation
    ) not between 1023.99 and 1024.01
    union all
    select 15, f.fault from tidemark._distribution_faults(p_dimension_name) as f (fault) where f.fault is not null
)
select f.place, f.fault from faults as f order by f.place;
$$;

create or replace function tidemark._is_printed_as_equal(
    p_type_id oid,
    p_collation_id oid
)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Whether values of a type that are equal to an index also print alike, or are made to by tidemark._key_member: what a key needs,
-- because versions are found by the one and absorbed changes by the other. False for interval ('1 day', '24:00'), jsonb (1, 1.0),
-- citext, composites, containers of such types or of numerics, floats and char(n), and for collations that are not deterministic.
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
