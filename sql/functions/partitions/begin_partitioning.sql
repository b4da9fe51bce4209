create or replace function tidemark.begin_partitioning(
    p_dimension_name text,
    p_partitions integer
)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Begins to make a history partitioned by hash of its key, into p_partitions, or plain (0): makes an empty copy of the table in a schema of
-- its own, where nobody else may look, and lists from here on, by triggers, which versions are written, whoever writes them.
-- tidemark.copy_versions fills the copy then, complete_copy and compare_copy make it whole, finish_partitioning puts it in the place of the
-- history; abandon_partitioning gives it up. Readers and loaders go on, but that this waits until who writes to the table has committed.
-- Safe to repeat: true where it began, false where it goes on with what was begun. For the owner of the history.
-- Errors: TM002 unknown dimension, TM025 no history table, TM033 it cannot be (tidemark.partition_plan says why), 55P03 it is locked,
-- 57014 who writes would wait too long for the triggers of its partitions.
declare
    v_begun tidemark.partitionings;
    v_history regclass;
    v_obstacles text [];
    v_copy regclass;
    v_changes regclass;
begin
    perform tidemark._assert_dimension_known(p_dimension_name);
    perform tidemark._assert_history_there(p_dimension_name);
    select p.* into v_begun from tidemark.partitionings as p where p.dimension_name = p_dimension_name for update;
    if v_begun.partitions = p_partitions and tidemark._is_copy_good(p_dimension_name) then
        return false;
    end if;
    perform tidemark.abandon_partitioning(p_dimension_name);
    select p.obstacles into v_obstacles from tidemark.partition_plan(p_dimension_name, p_partitions) as p;
    if v_obstacles <> '{}' then
        raise exception using
            errcode = 'TM033',
            message = format(
                'the history cannot be made %s as it stands: %s',
                case p_partitions when 0 then 'a plain table' else 'partitioned' end, array_to_string(v_obstacles, '; ')
            ),
            detail = format('table=%s partitions=%s', p_dimension_name, p_partitions),
            hint = 'nothing was changed: take out what is named, and make it anew afterwards';
    end if;
    select d.history_relation into v_history from tidemark.dimensions as d where d.dimension_name = p_dimension_name;
    v_copy := tidemark._create_copy(p_dimension_name, p_partitions);
    v_changes := tidemark._list_changes(p_dimension_name, v_copy);
    insert into tidemark.partitionings (
        dimension_name, partitions, history_relation, history_shape, copy_relation, changes_relation
    )
    values (p_dimension_name, p_partitions, v_history, tidemark._table_shape(v_history), v_copy, v_changes);
    -- What finds a version by its key is made at once, the rest when all is copied.
    execute (
        select r.statement from tidemark._copied_rules(p_dimension_name) as r where r.finds_versions order by r.rule_name limit 1
    );
    return true;
end;
$$;

create or replace function tidemark._create_copy(
    p_dimension_name text,
    p_partitions integer
)
returns regclass
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Makes the table that is to take the place of a history, under its names, in a schema of its own: columns, checks and comments, no index.
declare
    v_history regclass;
    v_schema text := tidemark._fit_name('tidemark_copy_' || p_dimension_name, '');
    v_copy text;
    v_statement text;
begin
    select d.history_relation, format('%I.%I', v_schema, c.relname)
    into v_history, v_copy
    from tidemark.dimensions as d
    join pg_class as c on c.oid = d.history_relation
    where d.dimension_name = p_dimension_name;
    execute format('create schema %I', v_schema);
    perform set_config('default_tablespace', coalesce((
        select s.spcname
        from tidemark._history_parts(v_history) as p (part)
        join pg_class as c on c.oid = p.part
        join pg_tablespace as s on s.oid = c.reltablespace
        limit 1
    ), ''), true);
    execute format(
        'create table %s (like %s including all excluding indexes excluding identity)%s', v_copy, v_history,
        case when p_partitions > 0 then format(' partition by hash (%s)', (
            select string_agg(quote_ident(c.history_column), ', ' order by c.ordinal)
            from tidemark.dimension_columns as c
            where c.dimension_name = p_dimension_name and c.column_role = 'business key'
        )) end
    );
    execute format('alter table %s alter column surrogate_key drop default', v_copy);
    if p_partitions > 0 then
        perform tidemark.create_partitions(v_copy::regclass, p_partitions);
    end if;
    for v_statement in
        -- Storage parameters are those of the tables that hold rows.
        select format('alter table %s set (%s)', n.part, array_to_string(s.options, ', '))
        from tidemark._history_parts(v_copy::regclass) as n (part)
        cross join (
            select c.reloptions || array(select 'toast.' || o.name from unnest(t.reloptions) as o (name)) as options
            from tidemark._history_parts(v_history) as p (part)
            join pg_class as c on c.oid = p.part
            left join pg_class as t on t.oid = c.reltoastrelid
            limit 1
        ) as s
        where s.options <> '{}'
        union all
        select format('alter table %s alter column %I set statistics %s', v_copy, a.attname, a.attstattarget)
        from pg_attribute as a
        where a.attrelid = v_history and a.attnum > 0 and not a.attisdropped and a.attstattarget >= 0
        union all
        select format('alter table %s alter column %I set (%s)', v_copy, a.attname, array_to_string(a.attoptions, ', '))
        from pg_attribute as a
        where a.attrelid = v_history and a.attnum > 0 and not a.attisdropped and a.attoptions is not null
        union all
        select format('comment on table %s is %L', v_copy, obj_description(v_history, 'pg_class'))
    loop
        execute v_statement;
    end loop;
    return v_copy::regclass;
end;
$$;

create or replace function tidemark._list_changes(
    p_dimension_name text,
    p_copy_relation regclass
)
returns regclass
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Makes the table that lists which versions of a history were written, by key and surrogate key, and the triggers that write it: they fire
-- in the transaction that writes, also in one that applies what was replicated, so that the list has exactly what was committed.
-- Takes the history for itself against writers until this transaction ends, for 2 s at most.
-- Errors: 57014 it would take longer.
declare
    v_history regclass := (select d.history_relation from tidemark.dimensions as d where d.dimension_name = p_dimension_name);
    v_schema text := (
        select n.nspname from pg_class as c join pg_namespace as n on n.oid = c.relnamespace where c.oid = p_copy_relation
    );
    v_changes text := format('%I.changes', v_schema);
    v_columns text;
    v_listed text;
    v_part regclass;
    v_event record;
    v_locked_at timestamptz;
begin
    select string_agg(format('key_%s %s%s', k.place, k.type_name, ' collate ' || k.collation_name), ', ' order by k.place),
        string_agg(format('h.%I', k.column_name), ', ' order by k.place)
    into v_columns, v_listed
    from tidemark._key_places(p_dimension_name) as k;
    execute format('create table %s (surrogate_key bigint, %s)', v_changes, v_columns);
    -- The triggers write with the rights of their function's owner, who may be another than the one who asks, a superuser say.
    execute (
        select format(
            'grant usage on schema %1$I to %2$I; grant insert on %3$s to %2$I', v_schema, pg_get_userbyid(p.proowner), v_changes
        )
        from pg_proc as p
        where p.oid = to_regprocedure('tidemark._list_written()')
    );
    execute format('lock table %s in share row exclusive mode', v_history);
    v_locked_at := clock_timestamp();
    -- A statement fires the triggers of the table that it names.
    for v_part in select v_history union select p.part from tidemark._history_parts(v_history) as p (part) loop
        for v_event in
            select *
            from (
                values
                ('insert', ' referencing new table as written_now', 'from written_now as h'),
                ('update', ' referencing old table as written_before new table as written_now',
                    'from (select * from written_before union all select * from written_now) as h'),
                ('delete', ' referencing old table as written_before', 'from written_before as h'),
                ('truncate', '', null)
            ) as e (name, tables, source)
        loop
            execute format(
                'create trigger tidemark_copy_%1$s after %1$s on %2$s%3$s for each statement '
                'execute function tidemark._list_written(%4$L, %5$L)',
                v_event.name, v_part, v_event.tables, p_dimension_name,
                format('insert into %s select distinct h.surrogate_key, %s %s', v_changes, v_listed, v_event.source)
            );
        end loop;
        execute format(
            'alter table only %s enable always trigger tidemark_copy_insert, enable always trigger tidemark_copy_update, '
            'enable always trigger tidemark_copy_delete, enable always trigger tidemark_copy_truncate', v_part
        );
        if clock_timestamp() - v_locked_at > interval '2 seconds' then
            raise exception using
                errcode = '57014',
                message = 'the triggers that list what is written take longer to make than who writes is to wait, 2 s',
                detail = format('table=%s', p_dimension_name),
                hint = 'nothing was changed: try again when the server has less to do';
        end if;
    end loop;
    return v_changes::regclass;
end;
$$;

create or replace function tidemark._list_written()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Lists the versions that a statement wrote, for a copy of their history (tidemark.begin_partitioning). Its arguments are the name of the
-- dimension and the statement that does. After what cannot be followed, as a truncation or a key of another type, the copy is void, and who
-- writes goes on.
begin
    if tg_op = 'TRUNCATE' then
        update tidemark.partitionings as p set is_void = true where p.dimension_name = tg_argv[0];
    else
        execute tg_argv[1];
    end if;
    return null;
exception
    when undefined_table or undefined_column or datatype_mismatch or data_exception then
        update tidemark.partitionings as p set is_void = true where p.dimension_name = tg_argv[0];
        return null;
end;
$$;

revoke execute on function tidemark._list_written () from public;

create or replace function tidemark._key_places(
    p_dimension_name text
)
returns table (
    place bigint,
    column_name text,
    type_name text,
    collation_name text
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The columns of a key in the order of the index that finds versions by them, so that the index serves what goes through a history in
-- order.
select k.place, a.attname::text, format_type(a.atttypid, a.atttypmod),
    (
        select format('%I.%I', s.nspname, l.collname)
        from pg_collation as l
        join pg_namespace as s on s.oid = l.collnamespace
        where l.oid = a.attcollation
    )
from tidemark.dimensions as d
cross join lateral unnest((
    select x.indkey::smallint []
    from pg_index as x
    where x.indexrelid = tidemark._finding_index(p_dimension_name)
)) with ordinality as k (attnum, place)
join pg_attribute as a on a.attrelid = d.history_relation and a.attnum = k.attnum and a.attname <> 'valid_from'
where d.dimension_name = p_dimension_name;
$$;

create or replace function tidemark._finding_index(
    p_dimension_name text
)
returns regclass
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The unique index of a history over its key and valid_from, which comes last; every history has one (tidemark.dimension_faults).
select min(x.indexrelid::bigint)::oid::regclass
from tidemark.dimensions as d
join pg_index as x on x.indrelid = d.history_relation and x.indisunique and x.indisvalid and x.indpred is null
where d.dimension_name = p_dimension_name
    and (
        select array_agg(a.attname::text order by a.attname = 'valid_from', a.attname::text collate "C")
        from unnest(x.indkey::smallint []) with ordinality as k (attnum, place)
        join pg_attribute as a on a.attrelid = x.indrelid and a.attnum = k.attnum
        where k.place <= x.indnkeyatts
    ) = (
        select array_agg(c.history_column order by c.history_column collate "C") || 'valid_from'::text
        from tidemark.dimension_columns as c
        where c.dimension_name = p_dimension_name and c.column_role = 'business key'
    )
    and (
        select a.attname = 'valid_from'
        from pg_attribute as a
        where a.attrelid = x.indrelid and a.attnum = x.indkey[x.indnkeyatts - 1]
    );
$$;

create or replace function tidemark._table_shape(
    p_relation regclass
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- What a copy of a history and the history have in common: columns, their types and rules. In the same order, without what was dropped.
-- A key may be null in a history, and not in one with partitions.
select string_agg(f.part, e'\n' order by f.kind, f.place, f.part collate "C")
from (
    select 1 as kind, row_number() over (order by a.attnum) as place, concat_ws(
        ' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod), a.attcollation::regcollation,
        case when a.attname <> 'surrogate_key' then pg_get_expr(f.adbin, f.adrelid) end, a.attgenerated
    ) as part
    from pg_attribute as a
    left join pg_attrdef as f on f.adrelid = a.attrelid and f.adnum = a.attnum
    where a.attrelid = p_relation and a.attnum > 0 and not a.attisdropped
    union all
    select 2, 0, format('%s %s', r.conname, pg_get_expr(r.conbin, r.conrelid))
    from pg_constraint as r
    where r.conrelid = p_relation and r.contype = 'c'
) as f;
$$;

create or replace function tidemark._is_copy_good(
    p_dimension_name text
)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Whether the copy that was begun of a history can still become one: both tables are there and alike, and the triggers are as they were
-- made.
select exists (
    select
    from tidemark.partitionings as p
    join tidemark.dimensions as d on d.dimension_name = p.dimension_name and d.history_relation = p.history_relation
    join pg_class as c on c.oid = p.copy_relation
    join pg_class as n on n.oid = p.changes_relation
    where p.dimension_name = p_dimension_name and not p.is_void
        and tidemark._table_shape(p.history_relation) = p.history_shape
        and tidemark._table_shape(p.copy_relation) = p.history_shape
        and 4 = all (
            select count(*) filter (where t.tgenabled = 'A')
            from (
                select h.part from tidemark._history_parts(p.history_relation) as h (part) union select p.history_relation
            ) as h
            left join pg_trigger as t on t.tgrelid = h.part and t.tgfoid = to_regprocedure('tidemark._list_written()')
            group by h.part
        )
        and tidemark._finding_index(p_dimension_name) is not null
);
$$;
