create or replace function tidemark._retype_columns(
    p_dimension_name text,
    p_types jsonb,
    p_shard text,
    p_batch_id text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Gives history columns other types ({"column": "type"}), each in its own collation, and notes it in tidemark.retyped_columns. Views that
-- show one of them are made anew after it (tidemark._set_views_aside), and so are the functions of the dimension; the columns are analysed,
-- because their statistics go with their types. The caller holds the dimension. p_batch_id is the batch that it is for; null: a migration.
-- Errors: TM024 the history is partitioned by a column, something else depends on it, or is not ours to make anew; 55P03 others use the
-- history: nothing is changed.
declare
    v_history regclass := (select d.history_relation from tidemark.dimensions as d where d.dimension_name = p_dimension_name);
    v_is_scratch boolean := (select c.relpersistence = 't' from pg_class as c where c.oid = v_history);
    v_views text [];
    v_statement text;
    v_clauses text;
    v_former jsonb;
    v_detail text;
    v_key text;
begin
    select string_agg(n.name, ', ')
    into v_key
    from jsonb_object_keys(p_types) as n (name)
    join pg_attribute as a on a.attrelid = v_history and a.attname = n.name
    where tidemark._is_partitioned_by(v_history, a.attnum);
    if v_key is not null then
        raise exception using
            errcode = 'TM024',
            message = format('history cannot follow to another type: it is partitioned by %s', v_key),
            detail = format('dimension=%s type=%s', p_dimension_name, p_types),
            hint = format(
                'make it a plain table: npx tidemark table partition %s 0; then load or migrate again, and partition it anew',
                p_dimension_name
            );
    end if;

    select jsonb_object_agg(a.attname, format_type(a.atttypid, a.atttypmod)), string_agg(
        format(
            'alter column %1$I type %2$s%3$s using %1$I::%2$s', a.attname, n.type,
            case when t.typcollation <> 0 then (
                select format(' collate %I.%I', s.nspname, l.collname)
                from pg_collation as l
                join pg_namespace as s on s.oid = l.collnamespace
                where l.oid = a.attcollation
            ) end
        ),
        ', '
    )
    into v_former, v_clauses
    from jsonb_each_text(p_types) as n (history_column, type)
    join pg_attribute as a on a.attrelid = v_history and a.attname = n.history_column
    left join pg_type as t on t.oid = to_regtype(n.type);

    -- A scratch history (tidemark.open_replay) is nobody's but this session's.
    if not v_is_scratch then
        perform tidemark._clear_versions_view();
        v_views := tidemark._set_views_aside(v_history, array(select jsonb_object_keys(p_types)));
    end if;
    execute format('alter table %s %s', v_history, v_clauses);
    perform tidemark.compile_dimension(p_dimension_name);
    if v_is_scratch then
        return;
    end if;
    foreach v_statement in array v_views loop
        execute v_statement;
    end loop;
    perform tidemark._create_versions_view();
    execute format(
        'analyze %s (%s)', v_history, (select string_agg(quote_ident(k.name), ', ') from jsonb_object_keys(p_types) as k (name))
    );

    insert into tidemark.retyped_columns (dimension_name, history_column, former_type, type, shard, batch_id)
    select p_dimension_name, n.history_column, v_former ->> n.history_column, n.type, p_shard, p_batch_id
    from jsonb_each_text(p_types) as n (history_column, type);
    raise info using message = format(
        '%s: history columns have another type now: %s', p_dimension_name,
        (
            select string_agg(format('%s was %s and is %s', n.history_column, v_former ->> n.history_column, n.type), ', ')
            from jsonb_each_text(p_types) as n (history_column, type)
        )
    );
exception
    when lock_not_available then
        raise exception using
            errcode = '55P03',
            message = format('%s is to be altered, and in use: %s', v_history, sqlerrm),
            detail = format('dimension=%s', p_dimension_name),
            hint = 'nothing was changed: load again when nobody reads it for long; pg_locks shows who does';
    when dependent_objects_still_exist or feature_not_supported or insufficient_privilege or undefined_function
        or datatype_mismatch or invalid_table_definition then
        get stacked diagnostics v_detail = pg_exception_detail;
        raise exception using
            errcode = 'TM024',
            message = format('history cannot follow to another type: %s', sqlerrm),
            detail = format(
                'dimension=%s%s%s', p_dimension_name,
                (select string_agg(format(' %s: %s', n.name, n.type), ',') from jsonb_each_text(p_types) as n (name, type)),
                '; ' || nullif(replace(v_detail, E'\n', '; '), '')
            ),
            hint = 'nothing was changed: drop what is named, load or migrate again, and make it anew';
end;
$$;

create or replace function tidemark._set_views_aside(
    p_relation regclass,
    p_columns text []
)
returns text []
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Drops the views that show one of these columns of a table, and the views upon those; where p_columns is null, all that show a history or
-- what is bound to it. Returns the statements that make them anew, in their order: definition, options, grants, comments, owner.
-- Errors: 0A000 for one that is more than that: a materialized view, or one with rules, triggers or defaults of its own; 2BP01 where
-- something that is no view depends on one; 42501 where one is somebody else's.
declare
    v_view record;
    v_statements text [] := array[]::text [];
begin
    for v_view in
        with recursive dependent as (
            select w.ev_class as view, 1 as depth
            from pg_depend as x
            join pg_rewrite as w on w.oid = x.objid
            join pg_attribute as a on a.attrelid = x.refobjid and a.attnum = x.refobjsubid and a.attname = any (p_columns)
            where x.refobjid = p_relation and x.refclassid = 'pg_class'::regclass and x.classid = 'pg_rewrite'::regclass
            union
            select w.ev_class, d.depth + 1
            from dependent as d
            join pg_depend as x on x.refobjid = d.view and x.refclassid = 'pg_class'::regclass and x.classid = 'pg_rewrite'::regclass
            join pg_rewrite as w on w.oid = x.objid and w.ev_class <> d.view
        )
        select c.oid, format('%I.%I', n.nspname, c.relname) as name, c.relkind, c.relowner, c.relacl, c.relnamespace,
            ' with (' || array_to_string(c.reloptions, ', ') || ')' as options,
            exists (
                select from pg_rewrite as w where w.ev_class = c.oid and w.rulename <> '_RETURN'
                union all
                select from pg_trigger as t where t.tgrelid = c.oid
                union all
                select from pg_attrdef as f where f.adrelid = c.oid
            ) as is_more
        from (
            select d.view, max(d.depth) as depth from dependent as d group by d.view
            union all
            select v.view, v.depth from tidemark._dependent_views(p_relation) as v where p_columns is null
        ) as d
        join pg_class as c on c.oid = d.view
        join pg_namespace as n on n.oid = c.relnamespace
        order by d.depth desc, c.oid
    loop
        if v_view.relkind <> 'v' or v_view.is_more then
            raise exception using
                errcode = '0A000',
                message = format(
                    '%s shows the column, and is %s', v_view.name,
                    case when v_view.relkind = 'm' then 'a materialized view' else 'a view with rules, triggers or defaults' end
                );
        end if;
        v_statements := (
            select array_agg(s.statement order by s.place, s.statement)
            from (
                select 1 as place, format('create view %s%s as %s', v_view.name, v_view.options, pg_get_viewdef(v_view.oid)) as statement
                union all
                select 2, format('revoke all on %s from %s', v_view.name, tidemark._grantee(g.grantee))
                from pg_default_acl as f
                cross join lateral aclexplode(f.defaclacl) as g
                where f.defaclrole = current_user::regrole and f.defaclobjtype = 'r' and f.defaclnamespace in (0, v_view.relnamespace)
                    and g.grantee <> f.defaclrole
                union all
                select 3, format(
                    'grant %s on %s to %s%s', g.privilege_type, v_view.name, tidemark._grantee(g.grantee),
                    case when g.is_grantable then ' with grant option' else '' end
                )
                from aclexplode(v_view.relacl) as g
                where g.grantee <> v_view.relowner
                union all
                select 3, format(
                    'grant %s (%I) on %s to %s%s', g.privilege_type, a.attname, v_view.name, tidemark._grantee(g.grantee),
                    case when g.is_grantable then ' with grant option' else '' end
                )
                from pg_attribute as a
                cross join lateral aclexplode(a.attacl) as g
                where a.attrelid = v_view.oid
                union all
                select 3, format('comment on view %s is %L', v_view.name, obj_description(v_view.oid, 'pg_class'))
                where obj_description(v_view.oid, 'pg_class') is not null
                union all
                select 3, format('comment on column %s.%I is %L', v_view.name, a.attname, col_description(a.attrelid, a.attnum))
                from pg_attribute as a
                where a.attrelid = v_view.oid and col_description(a.attrelid, a.attnum) is not null
                union all
                select 4, format('alter view %s owner to %I', v_view.name, pg_get_userbyid(v_view.relowner))
                where v_view.relowner <> current_user::regrole
            ) as s
        ) || v_statements;
        execute format('drop view %s', v_view.name);
    end loop;
    return v_statements;
end;
$$;

create or replace function tidemark._grantee(
    p_role oid
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- A grantee of an access list, as GRANT names it.
select case p_role when 0 then 'public' else quote_ident(pg_get_userbyid(p_role)) end;
$$;
