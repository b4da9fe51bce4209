create or replace function tidemark.note_exported(
    p_export_id uuid,
    p_exported_at timestamptz,
    p_versions bigint,
    p_behind_since timestamptz
)
returns void
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Notes that the files of an export hold a snapshot, in which behind_since of tidemark.exports was p_behind_since: what was forgotten until
-- then they do not hold. A key that was forgotten since then goes with the next export.
update tidemark.exports as e
set exported_at = p_exported_at,
    versions = p_versions,
    behind_since = case when e.behind_since is distinct from p_behind_since then e.behind_since end
where e.export_id = p_export_id;
$$;

revoke execute on function tidemark.note_exported (uuid, timestamptz, bigint, timestamptz) from public;
