create or replace function tidemark._truncated_at(
    p_batch tidemark.batches,
    p_changes json
)
returns timestamptz
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The effective time of the TRUNCATE that a batch of the log is; null where it is none: a TRUNCATE is a batch of its own.
select coalesce((p_changes -> 0 ->> 'cdc_timestamp')::timestamptz, tidemark._capture_time(p_changes -> 0, p_batch.extracted_at))
where p_batch.change_count = 1 and json_array_length(p_changes) = 1 and (p_changes -> 0 ->> 'operation_type') = 'TRUNCATE';
$$;

create or replace function tidemark._apply_truncation(
    p_batch tidemark.batches,
    p_change json,
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
    greatest_captured_at timestamptz,
    truncated_keys integer
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Applies a TRUNCATE: a DELETE of every key in force, each with a line of its own from 1, some thousands at a time, so that a history of
-- any size takes little memory. Keys that come to have been in force by changes loaded later are for tidemark._recall_truncations.
-- Rejected changes of before are settled by it, whatever their key: nothing of them is in force. p_in_order_since as in
-- tidemark._fold_changes; what has the capture time before it is before this batch all the same. Errors: those of tidemark._apply_changes.
#variable_conflict use_column
declare
    v_captured_at timestamptz := tidemark._capture_time(p_change, p_batch.extracted_at);
    v_delete json;
    v_deletes json [] := '{}'::json [];
    v_result record;
    v_is_done boolean := false;
    v_keys refcursor;
begin
    select 0, 0, 0, 0, 0, 0, 1, v_captured_at, v_captured_at, 0
    into inserted_versions, closed_versions, absorbed_changes, corrected_versions, late_changes, rejected_changes,
        change_count, least_captured_at, greatest_captured_at, truncated_keys;

    -- Where later changes are loaded already, any key that had a version by then may have been in force.
    open v_keys for execute tidemark._laid_out(
        $query$
        -- Apart, because Citus prints no key in a subquery over a history that it distributes.
        with key as materialized (
            select distinct {stored_key_values}
            from {history} as h
            where h.is_current or (not $3 and h.captured_at <= $2)
        )
        select (
            select row_to_json(r.*)
            from (select {printed_keys}, 'DELETE' as operation_type, $1 as cdc_timestamp, $2 as extracted_at) as r
        ) as change
        from key as c
        order by {key_values}
        $query$,
        tidemark._column_lists(p_batch.dimension_name)
    )
    using p_batch.truncated_at, v_captured_at, v_captured_at >= p_in_order_since - interval '1 microsecond';
    while not v_is_done loop
        fetch v_keys into v_delete;
        v_is_done := not found;
        if not v_is_done then
            v_deletes := v_deletes || v_delete;
        end if;
        if cardinality(v_deletes) = 10000 or (v_is_done and cardinality(v_deletes) > 0) then
            select * into v_result
            from tidemark._apply_changes(
                p_batch, array_to_json(v_deletes),
                array(select generate_series(truncated_keys + 1, truncated_keys + cardinality(v_deletes))), p_in_order_since
            );
            inserted_versions := inserted_versions + v_result.inserted_versions;
            closed_versions := closed_versions + v_result.closed_versions;
            absorbed_changes := absorbed_changes + v_result.absorbed_changes;
            corrected_versions := corrected_versions + v_result.corrected_versions;
            late_changes := late_changes + v_result.late_changes;
            truncated_keys := truncated_keys + cardinality(v_deletes);
            v_deletes := '{}'::json [];
        end if;
    end loop;
    close v_keys;

    update tidemark.rejected_changes as r
    set settled_at = clock_timestamp(), settled_by_batch = p_batch.batch_id, settled_by_line = 1
    from tidemark.batches as b
    where r.dimension_name = p_batch.dimension_name and r.dismissed_at is null and r.settled_at is null
        and b.dimension_name = r.dimension_name and b.shard = r.shard and b.batch_id = r.batch_id
        and tidemark._capture_time(r.change, b.extracted_at) <= v_captured_at;
    return next;
end;
$$;

create or replace function tidemark._recall_truncations(
    p_batch tidemark.batches,
    p_changes json
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- A key that was not in force when its table was truncated has no DELETE of that TRUNCATE. A change from before it that comes now, late
-- or tried again, or goes or comes back with its batch, may bring the key into force: so the DELETE is noted first, as one that found
-- nothing to delete, and the fold of the key, which comes next, sees what it ends. Where the dimension has no TRUNCATE it is a look into
-- an index.
begin
    -- Locked: loaders of shards could otherwise give out the same lines.
    perform
    from tidemark.batches as t
    where t.dimension_name = p_batch.dimension_name and t.truncated_at is not null
    for update;
    if not found then
        return;
    end if;
    execute tidemark._laid_out(
        $statement$
        with change as (
            select {stored_keys}, c._operation, coalesce(c._extracted_at::timestamptz, $1) as _captured_at
            from rows from (json_to_recordset($2) as ({read_keys_as}, operation_type text, extracted_at text))
                as c ({keys}, _operation, _extracted_at)
        ),
        earliest as (
            select {key_values}, json_build_object({printed_key})::text as _business_key, min(c._captured_at) as _captured_at
            from change as c
            where c._operation <> 'DELETE' or $5
            group by {key_values}
        ),
        missing as (
            select t.shard, t.batch_id, t.truncated_at, t.greatest_captured_at, c._business_key,
                t.truncated_keys + row_number() over (partition by t.batch_id order by c._business_key) as _line,
                (select row_to_json(r.*) from (
                    select {printed_keys}, 'DELETE' as operation_type,
                        t.truncated_at as cdc_timestamp, t.greatest_captured_at as extracted_at
                ) as r) as change
            from earliest as c
            join tidemark.batches as t
                on t.dimension_name = {dimension} and t.truncated_at is not null
                    and (c._captured_at, coalesce($3, 9223372036854775807), $4 collate "C")
                        < (t.greatest_captured_at, t.sequence, t.batch_id collate "C")
            where not exists (
                select
                from tidemark.absorbed_changes as a
                where a.dimension_name = {dimension} and a.business_key = c._business_key
                    and a.shard = t.shard and a.batch_id = t.batch_id
            )
        ),
        noted as (
            insert into tidemark.absorbed_changes (
                dimension_name, shard, batch_id, change_line, business_key,
                cdc_operation, cdc_timestamp, captured_at, reason, change
            )
            select {dimension}, m.shard, m.batch_id, m._line, m._business_key,
                'DELETE', m.truncated_at, m.greatest_captured_at, 'nothing to delete', m.change
            from missing as m
            returning batch_id
        )
        update tidemark.batches as t
        set truncated_keys = t.truncated_keys + n.keys, absorbed_changes = t.absorbed_changes + n.keys
        from (select n.batch_id, count(*)::integer as keys from noted as n group by n.batch_id) as n
        where t.dimension_name = {dimension} and t.batch_id = n.batch_id
        $statement$,
        tidemark._column_lists(p_batch.dimension_name)
    )
    using p_batch.extracted_at, p_changes, p_batch.sequence, p_batch.batch_id, p_batch.retracted_at is not null;
end;
$$;
