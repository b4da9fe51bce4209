create or replace function tidemark.grant_statements(
    p_prefix text,
    p_owner text default null
)
returns setof text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The statements that make the least-privilege roles of a warehouse, in the order in which they are to run; safe to repeat.
-- <prefix>_owner owns and migrates, <prefix>_loader runs the pipeline, <prefix>_analyst reads. Statements are made here, nothing is run.
-- A function that is not volatile can only show what its caller may read; one that writes for others is security definer. So the loader
-- may execute these two kinds, the analyst the first alone, and nobody but the owner registers dimensions.
-- Masked columns (tidemark.mask_column) the analyst is not given, nor what else holds their values.
-- Roles that were there already lose what would make them more than that.
-- p_owner is who owns all of it and goes on to: no owner is made then, nothing changes hands, and what p_owner makes later is read, too.
with role as (
    select coalesce(p_owner, p_prefix || '_owner') as owner, p_prefix || '_loader' as loader, p_prefix || '_analyst' as analyst
),
made as (
    select n.name
    from role as r
    cross join lateral unnest(case when p_owner is null then array[r.owner] end || array[r.loader, r.analyst]) as n (name)
),
relation as (
    select c.oid, c.oid::regclass::text as name, c.relkind, c.relnamespace, false as is_part
    from pg_class as c
    where c.relkind in ('r', 'p', 'v', 'm')
        and not exists (select from pg_depend as x where x.classid = 'pg_class'::regclass and x.objid = c.oid and x.deptype = 'e')
        and (
            c.relnamespace = 'tidemark'::regnamespace
            or c.oid = 'public.pipeline_metadata'::regclass
            or c.oid in (select d.history_relation from tidemark.dimensions as d)
            -- The views that a dimension's migration made on its history.
            or exists (
                select from pg_rewrite as w
                join pg_depend as x on x.classid = 'pg_rewrite'::regclass and x.objid = w.oid and x.refclassid = 'pg_class'::regclass
                where w.ev_class = c.oid and x.refobjid in (select d.history_relation from tidemark.dimensions as d)
            )
        )
    union all
    -- Partitions belong to whom their history belongs, and are read and written through it: nobody is granted one.
    select c.oid, c.oid::regclass::text, c.relkind, c.relnamespace, true
    from tidemark.dimensions as d
    join pg_inherits as i on i.inhparent = d.history_relation
    join pg_class as c on c.oid = i.inhrelid
),
routine as (
    select p.oid::regprocedure::text as signature, p.pronamespace = 'tidemark'::regnamespace as is_own, p.prokind,
        p.provolatile <> 'v' as only_reads, p.prosecdef as is_definer
    from pg_proc as p
    where p.pronamespace = 'tidemark'::regnamespace
        -- Those beside a history, which take or return its rows.
        or p.oid in (
            select x.objid
            from tidemark.dimensions as d
            join pg_class as c on c.oid = d.history_relation
            join pg_depend as x on x.refclassid = 'pg_type'::regclass and x.refobjid = c.reltype and x.classid = 'pg_proc'::regclass
        )
),
-- What the analyst is not to see of a relation where columns are masked: of a history these, and of what else holds their values where they
-- stand. Of a view of somebody's own that reads one, nobody knows where: the analyst is given none of it.
masked as (
    select d.history_relation, c.history_column, a.attnum
    from tidemark.dimension_columns as c
    join tidemark.dimensions as d on d.dimension_name = c.dimension_name
    join pg_attribute as a on a.attrelid = d.history_relation and a.attname = c.history_column
    where c.masked_at is not null
),
hidden as (
    -- A URL may hold a secret.
    select 'tidemark.subscriptions'::regclass::oid as oid, array['target'] as columns
    union all
    select m.history_relation::oid, array_agg(m.history_column) from masked as m group by m.history_relation
    union all
    select o.name::regclass, o.columns
    from (
        values
        ('tidemark.versions', array['tracked_values']),
        ('tidemark.neighbours', array['tracked_values']),
        ('tidemark.absorbed_changes', array['change']),
        ('tidemark.rejected_changes', array['change', 'value', 'reason']),
        ('tidemark.retracted_changes', array['change', 'rejected']),
        ('tidemark.first_values', array['values_before'])
    ) as o (name, columns)
    where exists (select from masked)
    union all
    select w.ev_class, case
        when bool_and(v.relname = regexp_replace(h.relname, '_history$', '') || '_current') then array_agg(m.history_column::name::text)
        else (select array_agg(c.attname::text) from pg_attribute as c where c.attrelid = w.ev_class and c.attnum > 0)
    end
    from masked as m
    join pg_depend as x on x.refobjid = m.history_relation and x.refobjsubid = m.attnum and x.classid = 'pg_rewrite'::regclass
    join pg_rewrite as w on w.oid = x.objid
    join pg_class as v on v.oid = w.ev_class and v.relnamespace <> 'tidemark'::regnamespace
    join pg_class as h on h.oid = m.history_relation
    group by w.ev_class
),
kind_of_type as (
    select format('%I.%I', n.nspname, t.typname) as name
    from pg_type as t
    join pg_namespace as n on n.oid = t.typnamespace
    left join pg_class as c on c.oid = t.typrelid
    where n.nspname = 'tidemark' and (t.typtype in ('e', 'd', 'r') or c.relkind = 'c')
),
schema_of as (
    select distinct format('%I', n.nspname) as name
    from relation as r
    join pg_namespace as n on n.oid = r.relnamespace
),
statement (step, line) as (
    select 1, format('create role %I login nosuperuser nocreatedb nocreaterole noreplication nobypassrls', n.name)
    from made as n
    where not exists (select from pg_roles as p where p.rolname = n.name)
    union all
    -- A role that was there already is not what it should be.
    select 1, format('alter role %I nosuperuser nocreatedb nocreaterole noreplication nobypassrls', p.rolname)
    from made as n
    join pg_roles as p on p.rolname = n.name
    where p.rolsuper or p.rolcreatedb or p.rolcreaterole or p.rolreplication or p.rolbypassrls
    union all
    -- By whom it was granted is said: from 16 on a revoke takes back only what its own role granted, and warns at most.
    select distinct 1, format('revoke %I from %I%s cascade', g.rolname, p.rolname, ' granted by ' || quote_ident(b.rolname))
    from role as r
    join pg_roles as p on p.rolname in (r.loader, r.analyst)
    join pg_auth_members as m on m.member = p.oid
    join pg_roles as g on g.oid = m.roleid
    left join pg_roles as b on b.oid = m.grantor
    join pg_roles as t on pg_has_role(g.oid, t.oid, 'member')
    where t.rolsuper or t.rolcreaterole or t.rolname in (
        r.owner, r.loader, 'pg_write_all_data', 'pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files'
    )
    union all
    -- To tell a run that lives from one that died, it must see when the sessions of others began.
    select 2, format('grant pg_read_all_stats to %I', r.owner) from role as r where p_owner is null
    union all
    select 2, format('grant create on database %I to %I', current_database(), r.owner) from role as r where p_owner is null
    union all
    select 2, format('grant connect on database %I to %I', current_database(), n.name) from made as n
    union all
    select 3, format('grant usage on schema %s to %I, %I', s.name, r.loader, r.analyst) from role as r cross join schema_of as s
    union all
    select 3, format('grant usage, create on schema %s to %I', s.name, r.owner) from role as r cross join schema_of as s
    where s.name <> 'tidemark' and p_owner is null
    union all
    select 4, format('alter schema tidemark owner to %I', r.owner) from role as r where p_owner is null
    union all
    select 4, format(
        'alter %s %s owner to %I',
        case t.relkind when 'v' then 'view' when 'm' then 'materialized view' else 'table' end, t.name, r.owner
    )
    from role as r cross join relation as t
    where p_owner is null
    union all
    select 4, format('alter %s %s owner to %I', case f.prokind when 'a' then 'aggregate' else 'function' end, f.signature, r.owner)
    from role as r cross join routine as f
    where p_owner is null
    union all
    select 4, format('alter type %s owner to %I', t.name, r.owner) from role as r cross join kind_of_type as t where p_owner is null
    union all
    select 5, format('revoke execute on all functions in schema tidemark from public, %I, %I', r.loader, r.analyst) from role as r
    union all
    select 6, format('grant execute on function %s to %I', f.signature, r.loader)
    from role as r cross join routine as f where f.is_own and (f.only_reads or f.is_definer)
    union all
    select 6, format('grant execute on function %s to %I', f.signature, r.analyst)
    from role as r cross join routine as f where f.is_own and f.only_reads and not f.is_definer
    union all
    -- Whoever may read a history may export what it reads, and then it must be known where to.
    select 6, format('grant execute on function %s to %I', f.signature, r.analyst)
    from role as r cross join routine as f where f.signature ~ '^tidemark\.note_export(ed)?\('
    union all
    select 7, format('revoke all on %s from public, %I, %I', t.name, r.loader, r.analyst) from role as r cross join relation as t
    union all
    -- The secret that hashes of forgotten keys are made with is for the owner alone.
    select 8, format('grant select on %s to %I', t.name, r.loader) from role as r cross join relation as t
    where t.oid <> 'tidemark.forgetting_secret'::regclass and not t.is_part
    union all
    select 8, format('grant select%s on %s to %I', coalesce(' (' || a.names || ')', ''), t.name, r.analyst)
    from role as r
    cross join relation as t
    left join hidden as x on x.oid = t.oid
    left join lateral (
        select string_agg(quote_ident(c.attname), ', ' order by c.attnum) as names
        from pg_attribute as c
        where c.attrelid = t.oid and c.attnum > 0 and not c.attisdropped and c.attname <> all (x.columns)
    ) as a on true
    where (x.oid is null or a.names is not null) and t.oid <> 'tidemark.forgetting_secret'::regclass and not t.is_part
    union all
    select 8, format('grant update (threshold, severity, is_enabled) on tidemark.alert_rules to %I', r.loader) from role as r
    union all
    select 8, format('grant update (kpi_window) on tidemark.monitoring to %I', r.loader) from role as r
    union all
    select 9, format(
        'alter default privileges for role %I in schema %s grant select on tables to %I, %I', r.owner, s.name, r.loader, r.analyst
    )
    from role as r cross join schema_of as s
    union all
    select 9, format('alter default privileges for role %I revoke execute on functions from public', r.owner) from role as r
    where p_owner is null
    union all
    -- The last, and after the others are committed: workers see the owner only then.
    select 10, format('select tidemark._give_nodes_to(%L)', r.owner)
    from role as r
    where p_owner is null and exists (select from tidemark.dimensions as d where d.distributed_by is not null)
)
select s.line from statement as s order by s.step, s.line collate "C";
$$;
