create or replace function tidemark.acting_role()
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The role by which who is connected may take actions (tidemark.take_action) and write nothing else of a history: itself, where it is such
-- a role, else the loader's, as tidemark.grant_statements makes it, where it may take that. Null where there is none here.
select r.rolname::text
from pg_roles as r
where not r.rolsuper
    and has_function_privilege(r.oid, 'tidemark.take_action(text, text, text, text, text, text, text)', 'execute')
    and not has_table_privilege(r.oid, 'tidemark.batches', 'insert, update, delete, truncate')
    and (
        r.rolname = current_user
        -- From 16 on to be a member is not to be allowed to take the role.
        or (
            r.rolname like '%\_loader'
            and pg_has_role(r.oid, case when current_setting('server_version_num')::integer < 160000 then 'member' else 'set' end)
        )
    )
order by r.rolname = current_user desc, r.rolname
limit 1;
$$;
