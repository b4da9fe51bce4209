-- Applies changes of one batch: all of them, or, where some cannot be applied, the others, and sets those aside in
-- tidemark.rejected_changes. While nothing is wrong this costs one savepoint.
-- Errors: TM010 a rule of the history is broken, though no change is to blame: it was altered by hand; TM011 a key is too long for
-- an index; else what PostgreSQL raises.
create or replace function tidemark._apply_changes(
    p_batch tidemark.batches,
    p_changes json,
    p_lines integer [],
    p_is_in_order boolean
)
returns table (
    inserted_versions bigint,
    closed_versions bigint,
    absorbed_changes bigint,
    corrected_versions bigint,
    late_changes bigint,
    rejected_changes bigint,
    change_count bigint
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_result record;
    v_split record;
    v_rejected bigint := 0;
    v_constraint text;
    v_key text;
begin
    begin
        if p_batch.metadata ->> 'checksum' is null or json_typeof(p_batch.metadata -> 'columns') is distinct from 'array' then
            perform tidemark._assert_columns_alike(p_batch, p_changes);
        end if;
        select * into v_result from tidemark._fold_changes(p_batch, p_changes, p_lines, p_is_in_order);
    exception
        when data_exception or integrity_constraint_violation or invalid_parameter_value or sqlstate 'TM004' then
            select * into v_split from tidemark._split_changes(p_batch, p_changes, p_lines);
            if v_split.bad is null and sqlstate in ('23505', '23P01', '23514') then
                get stacked diagnostics v_constraint = constraint_name, v_key = pg_exception_detail;
                raise exception using
                    errcode = 'TM010',
                    message = format('history breaks one of its rules: %s', v_constraint),
                    -- The detail of a check would show the whole row; that of a key names the key alone.
                    detail = format(
                        'table=%s batch=%s%s', p_batch.dimension_name, p_batch.batch_id,
                        case when sqlstate <> '23514' then ' ' || v_key end
                    ),
                    hint = 'it was altered by hand: "tidemark check scd2" shows the rows, "tidemark rebuild" makes them anew';
            end if;
            if v_split.bad is null then
                raise;
            end if;
            select * into v_result
            from tidemark._fold_changes(p_batch, v_split.good_changes, v_split.good_lines, p_is_in_order);
            insert into tidemark.rejected_changes (
                dimension_name, shard, batch_id, change_line, business_key, column_name, value, reason, change, rejected_at
            )
            select p_batch.dimension_name, p_batch.shard, p_batch.batch_id, r.change_line,
                tidemark._printed_key(p_batch.dimension_name, r.change), r.column_name, r.value, r.reason,
                coalesce(r.change, 'null'), clock_timestamp()
            from json_to_recordset(v_split.bad)
                as r (change_line integer, column_name text, value text, reason text, change json);
            get diagnostics v_rejected = row_count;
        when program_limit_exceeded then
            raise exception using
                errcode = 'TM011',
                message = format('the batch exceeds a limit of PostgreSQL: %s', sqlerrm),
                detail = format('table=%s batch=%s', p_batch.dimension_name, p_batch.batch_id),
                hint = 'keys are indexed, also printed as JSON: a key may be up to about 2,600 bytes long; nothing was applied';
    end;
    return query
    select v_result.inserted_versions, v_result.closed_versions, v_result.absorbed_changes,
        v_result.corrected_versions, v_result.late_changes, v_rejected, v_result.change_count + v_rejected;
end;
$$;
