create or replace function tidemark.note_export(
    p_export_id uuid,
    p_dimension_name text,
    p_host text,
    p_folder text
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Notes that a history is exported to a folder, before any file is written: forgetting a key has to come there, too. An export that was
-- begun in that folder before, and is no more there, is replaced; one that has moved is found where it is now. Safe to repeat.
-- Writes for who may read only: whoever has a history may export it.
-- Errors: TM002 unknown dimension.
begin
    perform tidemark._assert_dimension_known(p_dimension_name);
    delete from tidemark.exports as e
    where (e.dimension_name, e.host, e.folder) = (p_dimension_name, p_host, p_folder) and e.export_id <> p_export_id;
    insert into tidemark.exports as e (export_id, dimension_name, host, folder, exported_by, noted_at)
    values (p_export_id, p_dimension_name, p_host, p_folder, session_user, clock_timestamp())
    on conflict (export_id) do update
    set host = excluded.host, folder = excluded.folder, exported_by = excluded.exported_by;
end;
$$;

revoke execute on function tidemark.note_export (uuid, text, text, text) from public;
