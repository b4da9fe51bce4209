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
-- What is kept of a change has the values that did not change, which a batch of the log leaves out, and is a DELETE where its row is
-- marked.
-- Also returns the earliest and latest capture time, those of rejected changes included; nulls where there is no change.
-- Errors: TM010 a rule of the history is broken, though no change is to blame: it was altered by hand; TM011 a key is too long for
-- an index; else what PostgreSQL raises. TM004 stays within: it sets the changes at fault aside.
#variable_conflict use_column
declare
    v_result record;
    v_split record;
    v_rejected bigint := 0;
    v_constraint text;
    v_key text;
    v_named text;
    v_leaves_out boolean;
    v_is_unknown boolean := false;
begin
    if p_batch.is_logged then
        v_leaves_out := (p_batch.metadata #>> '{log,unchanged}') <> '0';
        if v_leaves_out then
            p_changes := tidemark._fill_unchanged(p_batch, p_changes, p_lines);
        end if;
        p_changes := tidemark._mark_deleted(p_batch, p_changes);
        v_is_unknown := v_leaves_out and exists (
            select from json_array_elements(p_changes) as e (change) where json_typeof(e.change -> 'unchanged') = 'array'
        );
    end if;
    begin
        if v_is_unknown then
            raise exception using errcode = 'TM004', message = 'a value did not change, and history does not have it';
        end if;
        if p_batch.metadata ->> 'checksum' is null or json_typeof(p_batch.metadata -> 'columns') is distinct from 'array' then
            perform tidemark._assert_columns_alike(p_batch, p_changes);
        end if;
        select * into v_result from tidemark._fold_changes(p_batch, p_changes, p_lines, p_in_order_since);
    exception
        when data_exception or integrity_constraint_violation or invalid_parameter_value or sqlstate 'TM004' then
            select * into v_split from tidemark._split_changes(p_batch, p_changes, p_lines);
            if v_split.bad is null and sqlstate in ('23505', '23P01', '23514') then
                get stacked diagnostics
                    v_constraint = constraint_name, v_key = pg_exception_detail, v_named = pg_exception_hint;
                raise exception using
                    errcode = 'TM010',
                    message = format('history breaks one of its rules: %s', coalesce(nullif(v_constraint, ''), v_named)),
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
-- Makes history of changes of one batch: by the dimension's apply function where they come after all that is loaded and nothing is out
-- of the ordinary, else by its converge function. p_lines are their lines in the batch; null where it is whole.
-- p_in_order_since is the earliest capture time that comes after all that is loaded. Changes may state times of their own, which only
-- the functions read: where the time of the batch promises that they come in order and one of them does not, apply writes nothing.
-- Where the history is distributed, the nodes that hold it do the same for their keys (tidemark._fold_distributed).
-- Errors: TM004 naming the first line that cannot be applied; TM023 the functions are not what history table and mapping are now; TM025
-- the history table is gone; and what PostgreSQL raises at a value that it cannot read or store.
#variable_conflict use_column
declare
    v_dimension record;
    v_result record;
    v_is_ordered boolean;
begin
    select d.history_relation, d.change_order, d.distributed_by, c.missing, c.is_complete,
        d.compiled_from is not distinct from tidemark._history_fingerprint(d.dimension_name) as is_compiled
    into v_dimension
    from tidemark.dimensions as d
    cross join lateral (
        select coalesce(array_agg(c.source_column) filter (where c.may_be_missing), '{}') as missing,
            coalesce(bool_and(c.source_column = any (p_batch.columns)) filter (where c.column_role <> 'business key'), true) as is_complete
        from tidemark.dimension_columns as c
        where c.dimension_name = d.dimension_name and c.column_role in ('business key', 'tracked', 'untracked')
    ) as c
    where d.dimension_name = p_batch.dimension_name;

    if not v_dimension.is_compiled then
        perform tidemark._assert_history_there(p_batch.dimension_name);
        raise exception using
            errcode = 'TM023',
            message = 'the history table or its mapping was altered since its functions were written',
            detail = format('table=%s batch=%s', p_batch.dimension_name, p_batch.batch_id),
            hint = format('if that is meant: select tidemark.compile_dimension(%L)', p_batch.dimension_name);
    end if;

    perform tidemark._refresh_plans(v_dimension.history_relation);

    v_is_ordered := p_batch.extracted_at >= p_in_order_since and v_dimension.change_order = 'capture' and v_dimension.is_complete;
    if v_dimension.distributed_by is not null then
        select *
        into v_result
        from tidemark._fold_distributed(p_batch, p_changes, p_lines, v_dimension.missing, p_in_order_since, v_is_ordered);
    elsif v_is_ordered then
        execute format('select * from tidemark.%I($1, $2, $3, $4, $5)', tidemark._function_name('apply', p_batch.dimension_name))
        into v_result
        using p_batch, p_changes, p_lines, v_dimension.missing, p_in_order_since;
    end if;
    if v_result is null then
        perform tidemark._recall_truncations(p_batch, p_changes);
        execute format('select * from tidemark.%I($1, $2, $3, $4)', tidemark._function_name('converge', p_batch.dimension_name))
        into v_result
        using p_batch, p_changes, p_lines, v_dimension.missing;
    end if;

    -- What is retracted or restored was looked at when it was applied.
    if v_result.first_bad_line is not null and p_batch.retracted_at is null then
        raise exception using
            errcode = 'TM004',
            message = 'a change cannot be applied',
            detail = format('table=%s batch=%s line=%s', p_batch.dimension_name, p_batch.batch_id, v_result.first_bad_line);
    end if;
    return query
    select v_result.inserted_versions, v_result.closed_versions, v_result.absorbed_changes,
        v_result.corrected_versions, v_result.late_changes, v_result.change_count,
        v_result.least_captured_at, v_result.greatest_captured_at;
end;
$$;

create or replace function tidemark._refresh_plans(
    p_history_relation regclass
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- The history functions keep their plans for the session, and a plan made on an empty table may read a full one from end to end, once for
-- every change; so may one that was made when all versions were of one key, or one of them in force. So where a table that they read has
-- grown eightfold since it was last analysed, and autovacuum has not come by, the columns by which it is looked up are analysed here: every
-- session plans anew. That is eight times on the way to a hundred million versions. Skips a table that is locked for maintenance.
declare
    v_statement text;
begin
    for v_statement in
        select format('analyze (skip_locked) %s (%s)', c.oid::regclass, t.columns)
        from (
            values
            ('tidemark.absorbed_changes'::regclass, 'dimension_name, business_key'),
            ('tidemark.batches'::regclass, 'dimension_name, batch_id'),
            ('tidemark.first_values'::regclass, 'dimension_name, surrogate_key'),
            (p_history_relation, (
                select string_agg(format('%I', c.history_column), ', ') || ', surrogate_key, valid_from, is_current'
                from tidemark.dimensions as d
                join tidemark.dimension_columns as c using (dimension_name)
                where d.history_relation = p_history_relation and c.column_role = 'business key'
            ))
        ) as t (table_name, columns)
        -- "offset 0": one at a time, by its number; else every relation of the database is measured, each time.
        cross join lateral (select c.* from pg_class as c where c.oid = t.table_name offset 0) as c
        where pg_has_role(c.relowner, 'usage') and case c.relkind
            when 'r' then pg_relation_size(c.oid) > 8 * greatest(c.relpages, 1) * current_setting('block_size')::bigint
            when 'p' then tidemark._parts_have_grown(c.oid)
        end
    loop
        execute v_statement;
    end loop;
end;
$$;

create or replace function tidemark._parts_have_grown(
    p_history_relation regclass
)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Whether the partitions of a history have grown eightfold, all told, since they were last analysed, or since the history was: what is true
-- of all of them together autovacuum never looks at.
select coalesce(
    sum(pg_relation_size(c.oid)) > 8 * sum(greatest(c.relpages, 1)) * current_setting('block_size')::bigint
        or sum(greatest(c.reltuples, 0)) > 8 * greatest((select h.reltuples from pg_class as h where h.oid = p_history_relation), 100),
    false
)
from pg_inherits as i
join pg_class as c on c.oid = i.inhrelid
where i.inhparent = p_history_relation;
$$;

create or replace function tidemark._printed_key_expression(
    p_dimension_name text,
    p_change text
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- An expression over a change (p_change, of type json) that gives its key as tidemark._printed_key does: for statements over many.
select format('concat(''{'', %s, ''}'')', string_agg(
    format('%L, coalesce((%s -> %L)::text, ''null'')', to_json(c.history_column) || ' : ', p_change, c.source_column),
    ', '', '', ' order by c.ordinal
))
from tidemark.dimension_columns as c
where c.dimension_name = p_dimension_name and c.column_role = 'business key';
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
