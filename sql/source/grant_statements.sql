-- The statements that make the least-privilege role of a source, in the order in which they are to run; safe to repeat.
-- $1 its name; $2 the registered tables, a JSON array of {"source_schema", "source_table", "ignored_columns", "capture"}. It may read
-- the log of the server where one of them is captured from it, and not otherwise. Tables that are not there
-- are left out, and so are ignored columns: they need no right.
-- Of a role that was there already it takes back what makes it mighty, and every right to write. What it may read stays, because the
-- tables may be those of another warehouse.
with log as (
    select case when bool_or(r.capture <> 'poll') then 'replication' else 'noreplication' end as attribute,
        coalesce(bool_or(r.capture <> 'poll'), false) as is_read
    from json_to_recordset($2::text::json) as r (capture text)
),
registered as (
    select format('%I', n.nspname) as schema_name, format('%I.%I', n.nspname, c.relname) as table_name, (
        select format(' (%s%s)', string_agg(quote_ident(a.attname), ', ' order by a.attnum) filter (where not l.is_left_out),
            case when c.relkind in ('r', 'p') then ', xmin, tableoid' end)
        from pg_catalog.pg_attribute as a
        cross join lateral (
            select a.attname in (select i.name from json_array_elements_text(r.ignored_columns) as i (name)) as is_left_out
        ) as l
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        having bool_or(l.is_left_out) and not bool_and(l.is_left_out)
    ) as columns
    from json_to_recordset($2::text::json) as r (source_schema text, source_table text, ignored_columns json)
    join pg_catalog.pg_namespace as n on n.nspname = r.source_schema
    join pg_catalog.pg_class as c on c.relnamespace = n.oid and c.relname = r.source_table
),
writable as (
    select distinct format('%I.%I', n.nspname, c.relname) as table_name
    from pg_catalog.pg_roles as p
    join pg_catalog.pg_class as c on c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relowner <> p.oid
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    left join pg_catalog.pg_attribute as t on t.attrelid = c.oid and t.attacl is not null
    cross join lateral (
        select a.grantee, a.privilege_type from pg_catalog.aclexplode(c.relacl) as a
        union all
        select a.grantee, a.privilege_type from pg_catalog.aclexplode(t.attacl) as a
    ) as a
    where p.rolname = $1::text and a.grantee = p.oid
        and a.privilege_type in ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER')
),
statement (step, line) as (
    select 1, format('create role %I login nosuperuser nocreatedb nocreaterole %s nobypassrls', $1::text, l.attribute)
    from log as l
    where not exists (select from pg_catalog.pg_roles as p where p.rolname = $1::text)
    union all
    select 1, format('alter role %I nosuperuser nocreatedb nocreaterole %s', $1::text, l.attribute)
    from pg_catalog.pg_roles as p
    cross join log as l
    where p.rolname = $1::text and (p.rolsuper or p.rolcreatedb or p.rolcreaterole or p.rolreplication <> l.is_read)
    union all
    -- By whom it was granted is said: from 16 on a revoke takes back only what its own role granted, and warns at most.
    select distinct 1, format('revoke %I from %I%s cascade', g.rolname, p.rolname, ' granted by ' || pg_catalog.quote_ident(b.rolname))
    from pg_catalog.pg_roles as p
    join pg_catalog.pg_auth_members as m on m.member = p.oid
    join pg_catalog.pg_roles as g on g.oid = m.roleid
    left join pg_catalog.pg_roles as b on b.oid = m.grantor
    join pg_catalog.pg_roles as t on pg_catalog.pg_has_role(g.oid, t.oid, 'member')
    where p.rolname = $1::text and (
        t.rolsuper or t.rolcreaterole
        or t.rolname in ('pg_write_all_data', 'pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files')
    )
    union all
    -- The floor of extraction: when the transactions of others began.
    select 2, format('grant pg_read_all_stats to %I', $1::text)
    union all
    select 2, format('grant connect on database %I to %I', current_database(), $1::text)
    union all
    select 3, format('alter role %I in database %I set default_transaction_read_only = on', $1::text, current_database())
    union all
    -- Rows that a policy hides would be taken for rows that are not there: better an error.
    select 3, format('alter role %I in database %I set row_security = off', $1::text, current_database())
    union all
    select 4, format('revoke insert, update, delete, truncate, references, trigger on table %s from %I', w.table_name, $1::text)
    from writable as w
    union all
    select distinct 4, format('grant usage on schema %s to %I', r.schema_name, $1::text) from registered as r
    union all
    select 5, format('grant select%s on table %s to %I', r.columns, r.table_name, $1::text) from registered as r
)
select s.line from statement as s order by s.step, s.line collate "C"
