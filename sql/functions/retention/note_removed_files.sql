create or replace function tidemark.note_removed_files(
    p_dimension_name text,
    p_shard text,
    p_batch_ids text[]
)
returns bigint
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Notes of batches of a chain that retention is about to remove their files, so that one that is missing later is known to be no loss
-- (tidemark.skip_pruned). Comes before the removal: should that be cut off, a file that is noted is still there, which harms nothing.
-- Notes none but those that are settled (tidemark.settled_batches), and none twice. Returns how many it noted.
with noted as (
    update tidemark.batches as b
    set file_removed_at = clock_timestamp()
    from tidemark.settled_batches(p_dimension_name => p_dimension_name, p_shard => p_shard) as s
    where b.dimension_name = p_dimension_name and b.shard = p_shard and b.batch_id = s.batch_id
        and b.batch_id = any (p_batch_ids) and b.file_removed_at is null
    returning 1
)
select count(*) from noted;
$$;

revoke execute on function tidemark.note_removed_files (text, text, text[]) from public;
