create or replace function tidemark.reading_role()
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The role that who is connected may take to read, and no more: that of the analyst, as tidemark.grant_statements makes it. Null where
-- there is none here.
select r.rolname::text
from pg_roles as r
where r.rolname like '%\_analyst' and not r.rolsuper
    and has_table_privilege(r.oid, 'tidemark.batches', 'select')
    and not has_table_privilege(r.oid, 'tidemark.batches', 'insert, update, delete, truncate')
    -- From 16 on to be a member is not to be allowed to take the role.
    and pg_has_role(r.oid, case when current_setting('server_version_num')::integer < 160000 then 'member' else 'set' end)
order by r.rolname
limit 1;
$$;
