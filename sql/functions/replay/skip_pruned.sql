create or replace function tidemark.skip_pruned(
    p_dimension_name text,
    p_shard text,
    p_oldest_batch_id text,
    p_before timestamptz
)
returns bigint
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Lets a replay (tidemark.open_replay) do without the batches of a chain that retention has removed: those before the oldest batch whose
-- file is still there, noted as removed (tidemark.note_removed_files) or, where a restored ledger lacks the note, captured before p_before
-- (null: none for its age) and settled. They enter the scratch ledger without their metadata, as seen; no other does: that its file is gone
-- is no retention's doing. Where the ledger lacks the oldest batch, none is.
-- Returns how many they are. After it, tidemark.compare_replay compares only keys that nothing happened to until then.
with skipped as (
    insert into tidemark.batches (
        dimension_name, shard, batch_id, sequence, extracted_at, change_count, previous_checksum, checksum, metadata,
        inserted_versions, closed_versions, absorbed_changes, apply_started_at, applied_at, least_captured_at, greatest_captured_at
    )
    select tidemark._replay_name(p_dimension_name), b.shard, b.batch_id, b.sequence, b.extracted_at, b.change_count, b.previous_checksum,
        b.checksum, '{"is_pruned": true}', 0, 0, 0, b.apply_started_at, b.applied_at,
        b.least_captured_at, b.greatest_captured_at
    from tidemark.batches as b
    left join tidemark.settled_batches(p_dimension_name => p_dimension_name, p_shard => p_shard) as s using (batch_id)
    where b.dimension_name = p_dimension_name and b.shard = p_shard
        and (b.file_removed_at is not null or (s.batch_id is not null and b.extracted_at < p_before))
        and b.sequence < (
            select o.sequence
            from tidemark.batches as o
            where o.dimension_name = p_dimension_name and o.shard = p_shard and o.batch_id = p_oldest_batch_id
        )
    returning 1
)
select count(*) from skipped;
$$;
