create or replace function tidemark.finish_partitioning(
    p_dimension_name text
)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Puts the copy of a history (tidemark.begin_partitioning) in its place, in one transaction, and drops the table that was there: under its
-- name, with its owner, grants, sequence, indexes, constraints and comments, in its publications; views on it are made anew, and so are
-- the functions beside it. The copy must have been found to be what the history is (compare_copy); what was written since is copied under
-- the lock. Whoever loads or reads it waits meanwhile: call it with a lock_timeout and a statement_timeout. Locks are taken as readers
-- take them, views before the table, so that nobody is ended for a deadlock. Returns how many versions were copied under the lock.
-- Errors: TM006 isolation level; TM033 no copy was begun, it is not whole, or can become none; 55P03 and 57014 in use, and nothing is
-- changed.
declare
    v_begun tidemark.partitionings;
    v_general text [];
    v_views text [];
    v_after text [];
    v_rights text [];
    v_functions text;
    v_copied bigint;
    v_statement text;
begin
    perform tidemark._assert_read_committed('tidemark.finish_partitioning');
    perform tidemark._lock_dimension(p_dimension_name, '');
    lock table tidemark.dimensions in share row exclusive mode;
    select p.* into v_begun from tidemark.partitionings as p where p.dimension_name = p_dimension_name for update;
    perform tidemark._assert_copy_good(p_dimension_name);
    if v_begun.compared_at is null or exists (select from tidemark._copied_rules(p_dimension_name) as r where not r.is_there) then
        raise exception using
            errcode = 'TM033',
            message = 'the copy of the history is not whole',
            detail = format('table=%s', p_dimension_name),
            hint = format('npx tidemark table partition %s %s goes on with it', p_dimension_name, v_begun.partitions);
    end if;
    -- As they are: to make them from all registrations takes too long under a lock, where there are many.
    v_general := array(
        select format('create or replace view %s as %s', v.view::regclass, pg_get_viewdef(v.view)) from tidemark._views_of_all() as v (view)
    );
    perform tidemark._clear_versions_view();
    v_views := tidemark._set_views_aside(v_begun.history_relation, null);
    execute format('lock table %s in access exclusive mode', v_begun.history_relation);
    -- By now nobody writes.
    perform tidemark._assert_copy_good(p_dimension_name);
    select c.copied_versions + c.listed_versions into v_copied from tidemark._copy_versions(p_dimension_name, null) as c;

    v_after := tidemark._succession(p_dimension_name);
    select string_agg(distinct f.oid::regprocedure::text, ', '), array_agg(r.statement order by f.oid, r.place, r.statement)
    into v_functions, v_rights
    from tidemark._bound_to(v_begun.history_relation) as b
    join pg_proc as f on b.class_id = 'pg_proc'::regclass and f.oid = b.object_id
    cross join lateral tidemark._right_statements(
        'function', f.oid::regprocedure::text, f.proowner, f.proacl, acldefault('f', f.proowner)
    ) as r;
    execute 'drop function ' || v_functions;
    execute format('drop table %s', v_begun.history_relation);
    execute format('drop table %s', v_begun.changes_relation);
    foreach v_statement in array v_after loop
        execute v_statement;
    end loop;
    update tidemark.dimensions as d set history_relation = v_begun.copy_relation where d.dimension_name = p_dimension_name;
    delete from tidemark.partitionings as p where p.dimension_name = p_dimension_name;
    execute format('drop schema %I', tidemark._fit_name('tidemark_copy_' || p_dimension_name, ''));
    perform tidemark.compile_dimension(p_dimension_name);
    perform tidemark._assert_dimension_fits(p_dimension_name);
    foreach v_statement in array v_rights loop
        execute v_statement;
    end loop;
    foreach v_statement in array v_general || v_views loop
        execute v_statement;
    end loop;
    return v_copied;
end;
$$;

create or replace function tidemark._succession(
    p_dimension_name text
)
returns text []
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- The statements by which the copy of a history becomes it, once the table that was there is gone, in their order: its sequence goes on
-- where the other one stood; it moves to the schema, with its partitions; owner, grants and publications are those that the other one had.
declare
    v_begun tidemark.partitionings;
    v_sequence text;
    v_next bigint;
    v_schema text;
    v_copy_schema text;
    v_table text;
begin
    select p.* into v_begun from tidemark.partitionings as p where p.dimension_name = p_dimension_name;
    select quote_ident(o.nspname), quote_ident(n.nspname), format('%I.%I', o.nspname, h.relname)
    into v_schema, v_copy_schema, v_table
    from pg_class as h
    join pg_namespace as o on o.oid = h.relnamespace
    join pg_class as c on c.oid = v_begun.copy_relation
    join pg_namespace as n on n.oid = c.relnamespace
    where h.oid = v_begun.history_relation;
    v_sequence := pg_get_serial_sequence(v_begun.history_relation::text, 'surrogate_key');
    execute format(
        'select s.last_value + case when s.is_called then p.seqincrement else 0 end '
        'from %s as s, pg_sequence as p where p.seqrelid = %L::regclass',
        v_sequence, v_sequence
    )
    into v_next;
    return (
        select array_agg(s.statement order by s.place, s.statement)
        from (
            select 1 as place, case
                when v_begun.partitions > 0 then format(
                    'select setval(%L, %s, false)', pg_get_serial_sequence(v_begun.copy_relation::text, 'surrogate_key'), v_next
                )
                else format(
                    'alter table %s alter column surrogate_key add generated always as identity (sequence name %s.%I)',
                    v_begun.copy_relation, v_copy_schema, (select c.relname from pg_class as c where c.oid = v_sequence::regclass)
                )
            end as statement
            union all
            select 2, format('alter table %s alter column surrogate_key restart with %s', v_begun.copy_relation, v_next)
            where v_begun.partitions = 0
            union all
            select 3, format('alter table %s set schema %s', n.relation, v_schema)
            from (
                select v_begun.copy_relation as relation
                union
                select p.part from tidemark._history_parts(v_begun.copy_relation) as p (part)
            ) as n
            union all
            -- Partitions are read and written through their table: nobody is granted one.
            select 4 + r.place, r.statement
            from (
                select c.oid, c.oid = v_begun.copy_relation as is_whole
                from pg_class as c
                where c.oid = v_begun.copy_relation or c.oid in (
                    select p.part from tidemark._history_parts(v_begun.copy_relation) as p (part)
                )
            ) as n
            join pg_class as c on c.oid = n.oid
            join pg_class as h on h.oid = v_begun.history_relation
            cross join lateral tidemark._right_statements(
                'table', format('%s.%I', v_schema, c.relname), h.relowner,
                case when n.is_whole and h.relacl is not null then h.relacl else acldefault('r', h.relowner) end,
                coalesce(c.relacl, acldefault('r', h.relowner))
            ) as r
            union all
            select 8, format(
                'grant %s (%I) on table %s to %s%s', g.privilege_type, a.attname, v_table, tidemark._grantee(g.grantee),
                case when g.is_grantable then ' with grant option' else '' end
            )
            from pg_attribute as a
            cross join lateral aclexplode(a.attacl) as g
            where a.attrelid = v_begun.history_relation
            union all
            select 8, format('alter publication %I add table %s%s%s', u.pubname, v_table, ' (' || (
                select string_agg(quote_ident(a.attname), ', ' order by a.attnum)
                from pg_attribute as a
                where a.attrelid = r.prrelid and a.attnum = any (r.prattrs::smallint [])
            ) || ')', ' where ' || pg_get_expr(r.prqual, r.prrelid))
            from pg_publication_rel as r
            join pg_publication as u on u.oid = r.prpubid
            where r.prrelid = v_begun.history_relation
            union all
            select 9, format(
                'grant %s on sequence %s.%I to %s', g.privilege_type, v_schema, q.relname, tidemark._grantee(g.grantee)
            )
            from pg_class as s
            cross join lateral aclexplode(s.relacl) as g
            join pg_class as c on c.oid = v_begun.copy_relation
            cross join lateral (
                select case
                    when v_begun.partitions > 0 then tidemark._fit_name(c.relname, '_surrogate_key_seq')
                    else s.relname
                end as relname
            ) as q
            where s.oid = v_sequence::regclass and g.grantee <> s.relowner
        ) as s
    );
end;
$$;

create or replace function tidemark._right_statements(
    p_kind text,
    p_name text,
    p_owner oid,
    p_rights aclitem [],
    p_rights_now aclitem []
)
returns table (
    place integer,
    statement text
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The statements that give a table or function, which this role has just made, the owner and the access list of another one. p_rights: that
-- list, null for the default; p_rights_now: the list that the new one has.
select 1, format('alter %s %s owner to %s', p_kind, p_name, tidemark._grantee(p_owner))
where p_owner <> current_user::regrole
union all
select distinct 2, format('revoke all on %s %s from %s', p_kind, p_name, tidemark._grantee(g.grantee))
from aclexplode(p_rights_now) as g
where g.grantee not in (p_owner, current_user::regrole)
union all
select 3, format(
    'grant %s on %s %s to %s%s', g.privilege_type, p_kind, p_name, tidemark._grantee(g.grantee),
    case when g.is_grantable then ' with grant option' else '' end
)
from aclexplode(coalesce(p_rights, p_rights_now)) as g
where g.grantee <> p_owner;
$$;
