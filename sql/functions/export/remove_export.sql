create or replace function tidemark.remove_export(
    p_export_id uuid
)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Notes that an export is no more: its files are gone, and no key has to be forgotten there.
delete from tidemark.exports as e where e.export_id = p_export_id;
$$;

revoke execute on function tidemark.remove_export (uuid) from public;
