create or replace function tidemark.note_forgotten_content(
    p_dimension_name text,
    p_forgetting_ids bigint [],
    p_shard text,
    p_batch_id text,
    p_content_checksum text,
    p_forgotten_lines integer
)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Notes what a batch is to hold from now on, before its file is written: the one that is there is loaded and replayed no more.
update tidemark.forgettings as f
set files = f.files || jsonb_build_object(p_batch_id, p_forgotten_lines)
where f.forgetting_id = any (p_forgetting_ids);
insert into tidemark.forgotten_contents as c (dimension_name, shard, batch_id, content_checksum, forgotten_lines)
values (p_dimension_name, p_shard, p_batch_id, p_content_checksum, p_forgotten_lines)
on conflict on constraint forgotten_contents_pkey do update
set content_checksum = excluded.content_checksum,
    forgotten_lines = excluded.forgotten_lines;
$$;

revoke execute on function tidemark.note_forgotten_content (text, bigint [], text, text, text, integer) from public;
