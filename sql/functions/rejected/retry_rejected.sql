create or replace function tidemark.retry_rejected(
    p_dimension_name text,
    p_reason text default null,
    p_who text default null
)
returns table (
    inserted_versions bigint,
    closed_versions bigint,
    absorbed_changes bigint,
    corrected_versions bigint,
    late_changes bigint,
    rejected_changes bigint
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
-- Applies the rejected changes of a dimension once more, each in its right place, and sets those aside again that still cannot
-- be applied. Call it once the cause is gone: a column was widened, a type was made, a rule was dropped. Those that a later change has
-- settled are tried, too: history lacks what they said. Dismissed ones are left alone. What is applied is known since now.
-- tidemark.actions keeps who did it (p_who, else the session's role), when and why, where something was applied or p_reason is given.
-- Safe to repeat. Takes the dimension for itself, as a batch of the whole table does.
-- Errors: TM002 unknown table, TM006 isolation level, TM018 a change captured before what was pruned,
-- TM024 a column that cannot be widened.
#variable_conflict use_column
declare
    v_batch tidemark.batches;
    v_changes json;
    v_lines integer [];
    v_result record;
    v_total bigint [] := array[0, 0, 0, 0, 0, 0];
    v_known_at timestamptz;
    v_tried bigint := 0;
begin
    perform tidemark._assert_read_committed('retry_rejected');
    if not exists (select from tidemark.dimensions as d where d.dimension_name = p_dimension_name) then
        raise exception using
            errcode = 'TM002',
            message = 'no dimension of that name is registered',
            detail = format('table=%s', p_dimension_name),
            hint = 'tidemark.dimensions lists those that are';
    end if;
    perform tidemark._lock_dimension(p_dimension_name, '');
    v_known_at := clock_timestamp();

    for v_batch in
        select b.*
        from tidemark.batches as b
        where b.dimension_name = p_dimension_name and exists (
            select
            from tidemark.rejected_changes as r
            where r.dimension_name = b.dimension_name and r.shard = b.shard and r.batch_id = b.batch_id and r.dismissed_at is null
        )
        order by b.extracted_at, b.sequence, b.batch_id, b.shard
    loop
        with taken as (
            delete from tidemark.rejected_changes as r
            where r.dimension_name = v_batch.dimension_name and r.shard = v_batch.shard and r.batch_id = v_batch.batch_id
                and r.dismissed_at is null
            returning r.change_line, r.change
        )
        select json_agg(t.change order by t.change_line), array_agg(t.change_line order by t.change_line)
        into v_changes, v_lines
        from taken as t;

        v_tried := v_tried + cardinality(v_lines);
        perform tidemark._follow_wider_columns(p_dimension_name, v_batch.metadata);
        select * into v_result from tidemark._apply_changes(v_batch, v_changes, v_lines, 'infinity');
        perform tidemark._assert_not_pruned(v_batch.dimension_name, v_batch.batch_id, v_result.least_captured_at);
        insert into tidemark.changes_known_later (dimension_name, shard, batch_id, change_line, known_at)
        select v_batch.dimension_name, v_batch.shard, v_batch.batch_id, l.line, v_known_at
        from unnest(v_lines) as l (line)
        where not exists (
            select
            from tidemark.rejected_changes as r
            where r.dimension_name = v_batch.dimension_name and r.shard = v_batch.shard and r.batch_id = v_batch.batch_id
                and r.change_line = l.line
        )
        on conflict do nothing;
        update tidemark.batches as b
        set inserted_versions = b.inserted_versions + v_result.inserted_versions,
            closed_versions = b.closed_versions + v_result.closed_versions,
            absorbed_changes = b.absorbed_changes + v_result.absorbed_changes,
            corrected_versions = b.corrected_versions + v_result.corrected_versions,
            late_changes = b.late_changes + v_result.late_changes,
            least_captured_at = least(b.least_captured_at, v_result.least_captured_at),
            greatest_captured_at = greatest(b.greatest_captured_at, v_result.greatest_captured_at),
            rejected_changes = v_result.rejected_changes + (
                select count(*)
                from tidemark.rejected_changes as r
                where r.dimension_name = b.dimension_name and r.shard = b.shard and r.batch_id = b.batch_id and r.dismissed_at is not null
            )
        where b.dimension_name = v_batch.dimension_name and b.shard = v_batch.shard and b.batch_id = v_batch.batch_id;
        v_total := array[
            v_total[1] + v_result.inserted_versions, v_total[2] + v_result.closed_versions, v_total[3] + v_result.absorbed_changes,
            v_total[4] + v_result.corrected_versions, v_total[5] + v_result.late_changes, v_total[6] + v_result.rejected_changes
        ];
    end loop;
    perform tidemark._settle_rejected(p_dimension_name, null, null, null);
    if v_tried > v_total[6] or (v_tried > 0 and p_reason is not null) then
        perform tidemark._note_action(p_dimension_name, 'retry', p_who, p_reason, null, v_tried - v_total[6]);
    end if;
    return query select v_total[1], v_total[2], v_total[3], v_total[4], v_total[5], v_total[6];
end;
$$;

revoke execute on function tidemark.retry_rejected (text, text, text) from public;
