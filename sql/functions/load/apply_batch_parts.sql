-- Applies one batch to its history, in whatever order batches come, and writes its row of the ledger in the same transaction.
-- Takes the two members of a batch document, batch_metadata and changes, each by itself: a loader that has them apart need not put
-- them together only for tidemark.apply_batch to part them again.
-- Safe to repeat: the ledger knows a batch by its name and checksum, and answers already_applied.
-- A change that cannot be applied is set aside in tidemark.rejected_changes and stops no other.
-- Takes a transaction-level advisory lock on the dimension (a shard: shared, and its own), so that loaders queue. Where a row may move
-- from shard to shard (shard_layout.by_key is false) a batch counts as one of the whole table, for the lock and for the order.
-- Runs with the rights of its owner: a role that may execute it needs no right on any table.
-- Errors: TM001 not a batch, TM002 unknown table, TM003 fork, TM004 an unmapped column, TM006 isolation level, TM008 checksum,
-- TM018 captured before what was pruned.
create or replace function tidemark.apply_batch_parts(
    p_metadata json,
    p_changes json
)
returns table (
    inserted_versions bigint,
    closed_versions bigint,
    absorbed_changes bigint,
    corrected_versions bigint,
    late_changes bigint,
    rejected_changes bigint,
    already_applied boolean
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
as $$
#variable_conflict use_column
declare
    v_started timestamptz := clock_timestamp();
    v_read record;
    v_batch tidemark.batches;
    v_result record;
    v_scope text;
begin
    perform tidemark._assert_read_committed('apply_batch');
    v_read := tidemark._read_batch(p_metadata, p_changes);
    v_scope := case when v_read.metadata #>> '{shard_layout,by_key}' = 'false' then '' else v_read.shard end;
    perform tidemark._lock_dimension(v_read.dimension_name, v_scope);
    if tidemark._is_already_applied(v_read.dimension_name, v_read.shard, v_read.batch_id, v_read.sequence, v_read.checksum) then
        return query select 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, true;
        return;
    end if;
    perform tidemark._assert_not_pruned(v_read.dimension_name, v_read.batch_id, v_read.extracted_at);

    v_batch.dimension_name := v_read.dimension_name;
    v_batch.shard := v_read.shard;
    v_batch.batch_id := v_read.batch_id;
    v_batch.sequence := v_read.sequence;
    v_batch.extracted_at := v_read.extracted_at;
    v_batch.change_count := v_read.change_count;
    v_batch.previous_checksum := v_read.previous_checksum;
    v_batch.checksum := v_read.checksum;
    v_batch.metadata := v_read.metadata;
    v_batch.apply_started_at := v_started;
    v_batch.columns := tidemark._batch_columns(v_read.dimension_name, v_read.batch_id, v_read.columns, v_read.changes);
    perform tidemark._note_missing_columns(v_batch.dimension_name, v_batch.columns);

    select * into v_result
    from tidemark._apply_changes(
        v_batch, v_read.changes, null,
        tidemark._is_in_order(v_batch.dimension_name, v_scope, v_batch.batch_id, v_batch.sequence, v_batch.extracted_at)
    );
    if v_result.change_count <> v_batch.change_count then
        raise exception using
            errcode = 'TM001',
            message = 'change_count does not fit the changes',
            detail = format('batch=%s stated=%s found=%s', v_batch.batch_id, v_batch.change_count, v_result.change_count),
            hint = 'the file was cut or altered after it was written: restore it, or extract again';
    end if;

    v_batch.inserted_versions := v_result.inserted_versions;
    v_batch.closed_versions := v_result.closed_versions;
    v_batch.absorbed_changes := v_result.absorbed_changes;
    v_batch.corrected_versions := v_result.corrected_versions;
    v_batch.late_changes := v_result.late_changes;
    v_batch.rejected_changes := v_result.rejected_changes;
    v_batch.applied_at := clock_timestamp();
    insert into tidemark.batches select v_batch.*;

    return query
    select v_result.inserted_versions, v_result.closed_versions, v_result.absorbed_changes,
        v_result.corrected_versions, v_result.late_changes, v_result.rejected_changes, false;
end;
$$;

revoke execute on function tidemark.apply_batch_parts (json, json) from public;
