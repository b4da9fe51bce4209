-- Folds changes of one batch into history, by the one-pass statement where they come after all that is loaded and nothing is
-- out of the ordinary, else by the statement that converges. p_lines are their lines in the batch; null where it is whole.
-- Errors: TM004 naming the first line that cannot be applied; and what PostgreSQL raises at a value that it cannot read or store.
create or replace function tidemark._fold_changes(
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
    change_count bigint
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_is_plain boolean;
    v_result record;
    v_to_place json;
begin
    select p_is_in_order and d.change_order = 'capture' and not exists (
        select
        from tidemark.dimension_columns as c
        where c.dimension_name = d.dimension_name and c.column_role in ('tracked', 'untracked')
            and c.source_column <> all (p_batch.columns)
    )
    into v_is_plain
    from tidemark.dimensions as d
    where d.dimension_name = p_batch.dimension_name;

    if v_is_plain and exists (
        select from tidemark.dimension_columns as c where c.dimension_name = p_batch.dimension_name and c.may_be_missing
    ) then
        v_is_plain := not tidemark._meets_incomplete_version(p_batch.dimension_name, p_changes);
    end if;

    if v_is_plain then
        execute tidemark._apply_statement(p_batch.dimension_name)
        into v_result
        using p_changes, p_batch.shard, p_batch.batch_id, transaction_timestamp(), p_batch.extracted_at, p_lines;
    else
        execute tidemark._converge_statement(p_batch.dimension_name)
        into v_result
        using p_changes, p_batch.shard, p_batch.batch_id, transaction_timestamp(), p_batch.extracted_at, p_lines,
            p_batch.sequence, p_batch.columns;
        v_to_place := v_result.to_place;
    end if;

    if v_result.first_bad_line is not null then
        raise exception using
            errcode = 'TM004',
            message = 'a change cannot be applied',
            detail = format('table=%s batch=%s line=%s', p_batch.dimension_name, p_batch.batch_id, v_result.first_bad_line);
    end if;
    if v_to_place is not null then
        execute tidemark._place_statement(p_batch.dimension_name) using v_to_place;
    end if;
    return query
    select v_result.inserted_versions, v_result.closed_versions, v_result.absorbed_changes,
        v_result.corrected_versions, v_result.late_changes, v_result.change_count;
end;
$$;
