create or replace function tidemark.restore_batch(
    p_dimension_name text,
    p_batch_id text,
    p_who text default null,
    p_reason text default null
)
returns table (
    restored_changes bigint,
    opened_versions bigint,
    closed_versions bigint,
    corrected_versions bigint,
    already_restored boolean
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Brings a retracted batch back: history becomes the fold of all changes again, the versions of the batch have the surrogate keys that they
-- had, and what was rejected is rejected again, dismissed or waiting as it was. tidemark.retractions keeps who did it (p_who, else the
-- session's role) and when, tidemark.actions also why (p_reason). Needs no batch file. The clock of the warehouse in a version (created_at)
-- is that of the restore.
-- Safe to repeat: a batch that is not out answers already_restored. Takes the dimension for itself.
-- Errors: TM002 unknown table, TM006 isolation level, TM027 the batch is not in the ledger.
#variable_conflict use_column
declare
    v_batch tidemark.batches;
    v_result record;
begin
    perform tidemark._assert_read_committed('restore_batch');
    perform tidemark._assert_dimension_known(p_dimension_name);
    perform tidemark._lock_dimension(p_dimension_name, '');
    v_batch := tidemark._named_batch(p_dimension_name, p_batch_id);
    if v_batch.retracted_at is null then
        return query select 0::bigint, 0::bigint, 0::bigint, 0::bigint, true;
        return;
    end if;

    v_result := tidemark._restore_changes(v_batch);
    update tidemark.retractions as r
    set restored_at = greatest(clock_timestamp(), r.retracted_at + interval '1 microsecond'),
        restored_by = tidemark._who(p_who)
    where r.dimension_name = p_dimension_name and r.shard = v_batch.shard and r.batch_id = v_batch.batch_id and r.restored_at is null;
    perform tidemark._note_action(p_dimension_name, 'restore', p_who, p_reason, p_batch_id, v_result.restored_changes);
    perform tidemark._settle_anew(p_dimension_name);
    return query
    select v_result.restored_changes, v_result.opened_versions, v_result.closed_versions, v_result.corrected_versions, false;
end;
$$;

revoke execute on function tidemark.restore_batch (text, text, text, text) from public;

create or replace function tidemark._restore_changes(
    p_batch tidemark.batches,
    out restored_changes bigint,
    out opened_versions bigint,
    out closed_versions bigint,
    out corrected_versions bigint
)
returns record
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Moves the changes of a retracted batch back: those that were rejected to tidemark.rejected_changes, all others to
-- tidemark.absorbed_changes, and folds their keys anew from before the first of them: those that open a version leave there again, and
-- the others are judged. The caller holds the dimension.
declare
    v_folded record;
begin
    insert into tidemark.absorbed_changes (
        dimension_name, shard, batch_id, change_line, business_key,
        cdc_operation, cdc_timestamp, captured_at, reason, surrogate_key, change
    )
    select r.dimension_name, r.shard, r.batch_id, r.change_line, r.business_key,
        r.cdc_operation, r.cdc_timestamp, r.captured_at, 'unchanged', r.surrogate_key, r.change
    from tidemark.retracted_changes as r
    where r.dimension_name = p_batch.dimension_name and r.shard = p_batch.shard and r.batch_id = p_batch.batch_id and r.rejected is null;

    insert into tidemark.rejected_changes (
        dimension_name, shard, batch_id, change_line, business_key, column_name, value, reason, change, rejected_at,
        dismissed_at, dismissed_by, dismiss_reason, settled_at, settled_by_batch, settled_by_line
    )
    select r.dimension_name, r.shard, r.batch_id, r.change_line, r.business_key, w.column_name, w.value, w.reason, r.change, w.rejected_at,
        w.dismissed_at, w.dismissed_by, w.dismiss_reason, w.settled_at, w.settled_by_batch, w.settled_by_line
    from tidemark.retracted_changes as r
    cross join lateral json_populate_record(null::tidemark.rejected_changes, r.rejected) as w
    where r.dimension_name = p_batch.dimension_name and r.shard = p_batch.shard and r.batch_id = p_batch.batch_id
        and r.rejected is not null;

    v_folded := tidemark._fold_retracted(p_batch);
    delete from tidemark.retracted_changes as r
    where r.dimension_name = p_batch.dimension_name and r.shard = p_batch.shard and r.batch_id = p_batch.batch_id;
    get diagnostics restored_changes = row_count;
    update tidemark.batches as b
    set retracted_at = null
    where b.dimension_name = p_batch.dimension_name and b.shard = p_batch.shard and b.batch_id = p_batch.batch_id;
    opened_versions := v_folded.inserted_versions;
    closed_versions := v_folded.closed_versions;
    corrected_versions := v_folded.corrected_versions;
end;
$$;
