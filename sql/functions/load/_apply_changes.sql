create or replace function tidemark._apply_changes(
    p_batch tidemark.batches,
    p_changes json,
    p_lines integer [],
    p_in_order_since timestamptz
)
returns table (
    inserted_versions bigint,
    closed_versions bigint,
    absorbed_changes bigint,
    corrected_versions bigint,
    late_changes bigint,
    rejected_changes bigint,
    change_count bigint,
    least_captured_at timestamptz,
    greatest_captured_at timestamptz
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Applies changes of one batch: all of them, or, where some cannot be applied, the others, and sets those aside in
-- tidemark.rejected_changes. While nothing is wrong this costs one savepoint. p_in_order_since as in tidemark._fold_changes.
-- Also returns the earliest and latest capture time, those of rejected changes included; nulls where there is no change.
-- Errors: TM010 a rule of the history is broken, though no change is to blame: it was altered by hand; TM011 a key is too long for
-- an index; else what PostgreSQL raises.
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
        select * into v_result from tidemark._fold_changes(p_batch, p_changes, p_lines, p_in_order_since);
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
            from tidemark._fold_changes(p_batch, v_split.good_changes, v_split.good_lines, p_in_order_since);
            insert into tidemark.rejected_changes (
                dimension_name, shard, batch_id, change_line, business_key, column_name, value, reason, change, rejected_at
            )
            select p_batch.dimension_name, p_batch.shard, p_batch.batch_id, r.change_line,
                tidemark._printed_key(p_batch.dimension_name, r.change), r.column_name, r.value, r.reason,
                coalesce(r.change, 'null'), clock_timestamp()
            from json_to_recordset(v_split.bad)
                as r (change_line integer, column_name text, value text, reason text, change json);
            get diagnostics v_rejected = row_count;
            select least(v_result.least_captured_at, min(c.captured_at)), greatest(v_result.greatest_captured_at, max(c.captured_at))
            into v_result.least_captured_at, v_result.greatest_captured_at
            from json_to_recordset(v_split.bad) as r (change json)
            cross join lateral (select tidemark._capture_time(r.change, p_batch.extracted_at) as captured_at) as c;
        when program_limit_exceeded then
            raise exception using
                errcode = 'TM011',
                message = format('the batch exceeds a limit of PostgreSQL: %s', sqlerrm),
                detail = format('table=%s batch=%s', p_batch.dimension_name, p_batch.batch_id),
                hint = 'keys are indexed, also printed as JSON: a key may be up to about 2,600 bytes long; nothing was applied';
    end;
    return query
    select v_result.inserted_versions, v_result.closed_versions, v_result.absorbed_changes,
        v_result.corrected_versions, v_result.late_changes, v_rejected, v_result.change_count + v_rejected,
        v_result.least_captured_at, v_result.greatest_captured_at;
end;
$$;

create or replace function tidemark._fold_changes(
    p_batch tidemark.batches,
    p_changes json,
    p_lines integer [],
    p_in_order_since timestamptz
)
returns table (
    inserted_versions bigint,
    closed_versions bigint,
    absorbed_changes bigint,
    corrected_versions bigint,
    late_changes bigint,
    change_count bigint,
    least_captured_at timestamptz,
    greatest_captured_at timestamptz
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Folds changes of one batch into history, by the one-pass statement where they come after all that is loaded and nothing is
-- out of the ordinary, else by the statement that converges. p_lines are their lines in the batch; null where it is whole.
-- p_in_order_since is the earliest capture time that comes after all that is loaded. Changes may state times of their own, which only
-- the statement reads: where the time of the batch promises that they come in order and one of them does not, it has written nothing.
-- Errors: TM004 naming the first line that cannot be applied; and what PostgreSQL raises at a value that it cannot read or store.
#variable_conflict use_column
declare
    v_is_plain boolean;
    v_result record;
    v_to_place json;
begin
    select p_batch.extracted_at >= p_in_order_since and d.change_order = 'capture' and not exists (
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
        using p_changes, p_batch.shard, p_batch.batch_id, transaction_timestamp(), p_batch.extracted_at, p_lines, p_in_order_since;
        v_is_plain := coalesce(v_result.least_captured_at >= p_in_order_since, true);
    end if;
    if not v_is_plain then
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
        v_result.corrected_versions, v_result.late_changes, v_result.change_count,
        v_result.least_captured_at, v_result.greatest_captured_at;
end;
$$;

create or replace function tidemark._printed_key(
    p_dimension_name text,
    p_change json
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The key of a change that cannot be applied, as far as it can be told without reading it: in the form of tidemark.versions.
select case
    when json_typeof(p_change) = 'object'
        then (
            select format('{%s}', string_agg(
                format('%s : %s', to_json(c.history_column), coalesce((p_change -> c.source_column)::text, 'null')), ', ' order by c.ordinal
            ))
            from tidemark.dimension_columns as c
            where c.dimension_name = p_dimension_name and c.column_role = 'business key'
        )
end;
$$;
