create or replace function tidemark.take_action(
    p_dimension_name text,
    p_action text,
    p_reason text,
    p_who text,
    p_batch_id text default null,
    p_column_name text default null,
    p_cause text default null
)
returns table (
    acted_at timestamptz,
    outcome text
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Does by hand what tidemark.actions has a name for, by the function for it, and says in words what came of it; for a person who has
-- tried it before, in a transaction that was rolled back, and seen the same words. A batch is named to retract or restore it, a column and
-- a cause of tidemark.rejected_causes to dismiss what waits for that. acted_at is that of the note, null where nothing was to be done, and
-- outcome says why; outcome is null where the ledger has no batch of that name.
-- Safe to repeat. Locks and errors are those of tidemark.retry_rejected, dismiss_rejected, retract_batch, restore_batch, pause_dimension.
-- It calls nothing by another's right: whoever may execute it may execute these.
#variable_conflict use_column
declare
    v_began timestamptz;
    v_tried bigint;
    v_done boolean := false;
    v_result record;
begin
    if p_action in ('retract', 'restore') and not exists (
        select from tidemark.batches as b where b.dimension_name = p_dimension_name and b.batch_id = p_batch_id
    ) then
        perform tidemark._assert_dimension_known(p_dimension_name);
        return query select null::timestamptz, null::text;
        return;
    end if;
    case p_action
        when 'retry' then
            perform tidemark._lock_dimension(p_dimension_name, '');
            v_tried := (
                select count(*)
                from tidemark.rejected_changes as r
                where r.dimension_name = p_dimension_name and r.dismissed_at is null
            );
            select * into v_result from tidemark.retry_rejected(p_dimension_name, coalesce(p_reason, ''), p_who);
            v_done := v_tried > 0;
            outcome := case
                when not v_done then 'no rejected change waits'
                else format(
                    '%s of %s rejected changes applied, %s rejected again: '
                    '%s versions opened, %s closed, %s corrected, %s changes absorbed',
                    v_tried - v_result.rejected_changes, v_tried, v_result.rejected_changes, v_result.inserted_versions,
                    v_result.closed_versions, v_result.corrected_versions, v_result.absorbed_changes
                )
            end;
        when 'dismiss' then
            perform tidemark._lock_dimension(p_dimension_name, '');
            v_began := clock_timestamp();
            perform tidemark.dismiss_rejected(
                p_dimension_name, p_batch_id, null, coalesce(p_reason, ''), p_column_name, null, p_cause, p_who
            );
            v_tried := (
                select sum(a.changes)
                from tidemark.actions as a
                where a.dimension_name = p_dimension_name and a.action = p_action and a.acted_at >= v_began
            );
            v_done := v_tried > 0;
            outcome := case
                when v_done then format('%s rejected changes dismissed: kept, but not tried again, and not waited for', v_tried)
                else 'no such rejected change waits'
            end;
        when 'retract' then
            select * into v_result from tidemark.retract_batch(p_dimension_name, p_batch_id, p_reason, p_who);
            v_done := not v_result.already_retracted;
            outcome := case
                when v_done then format(
                    '%s changes taken out of history: %s versions removed, %s opened, %s closed, %s corrected',
                    v_result.retracted_changes, v_result.removed_versions, v_result.opened_versions, v_result.closed_versions,
                    v_result.corrected_versions
                )
                else 'the batch is out of history already'
            end;
        when 'restore' then
            select * into v_result from tidemark.restore_batch(p_dimension_name, p_batch_id, p_who, p_reason);
            v_done := not v_result.already_restored;
            outcome := case
                when v_done then format(
                    '%s changes brought back into history: %s versions opened, %s closed, %s corrected',
                    v_result.restored_changes, v_result.opened_versions, v_result.closed_versions, v_result.corrected_versions
                )
                else 'the batch is in history already'
            end;
        when 'pause' then
            v_done := tidemark.pause_dimension(p_dimension_name, true, p_reason, p_who);
            outcome := case
                when v_done then 'neither extracted nor loaded until it is resumed; nothing is lost meanwhile' else 'it is paused already'
            end;
        when 'resume' then
            v_done := tidemark.pause_dimension(p_dimension_name, false, p_reason, p_who);
            outcome := case when v_done then 'extracted and loaded again, from where it was paused' else 'it is not paused' end;
    end case;
    if v_done then
        -- Who wrote it holds the dimension: a note of the same action that is newer cannot be there.
        acted_at := (
            select a.acted_at
            from tidemark.actions as a
            where a.dimension_name = p_dimension_name and a.action = p_action
            order by a.action_id desc
            limit 1
        );
    end if;
    return next;
end;
$$;

revoke execute on function tidemark.take_action (text, text, text, text, text, text, text) from public;
