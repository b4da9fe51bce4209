create or replace function tidemark.retract_batch(
    p_dimension_name text,
    p_batch_id text,
    p_reason text,
    p_who text default null
)
returns table (
    retracted_changes bigint,
    removed_versions bigint,
    opened_versions bigint,
    closed_versions bigint,
    corrected_versions bigint,
    already_retracted boolean
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Takes a batch that was wrong out of history, which becomes the fold of all other changes: its changes go to tidemark.retracted_changes,
-- those that were rejected too, until tidemark.restore_batch brings them back. Versions that survive keep their keys. The batch stays in
-- the ledger, so that its file is not loaded again and its chain goes on; tidemark.retractions keeps who did it (p_who, else the session's
-- role), when and why. What was settled by a change of it, another later change settles, or it waits again.
-- Safe to repeat: a batch that is out answers already_retracted. Takes the dimension for itself. Reads the history whole, for the versions
-- of the batch.
-- Errors: TM002 unknown table, TM006 isolation level, TM012 no reason is given, TM018 a change of the batch was captured before what was
-- pruned, TM027 the batch is not in the ledger, or is a TRUNCATE.
#variable_conflict use_column
declare
    v_batch tidemark.batches;
    v_result record;
    v_pruned_before timestamptz;
begin
    perform tidemark._assert_read_committed('retract_batch');
    perform tidemark._assert_dimension_known(p_dimension_name);
    if coalesce(btrim(p_reason), '') = '' then
        raise exception using
            errcode = 'TM012',
            message = 'a batch cannot be retracted without a reason',
            detail = format('table=%s batch=%s', p_dimension_name, p_batch_id),
            hint = 'say in p_reason what is wrong with it';
    end if;
    perform tidemark._lock_dimension(p_dimension_name, '');
    v_batch := tidemark._named_batch(p_dimension_name, p_batch_id);
    if v_batch.retracted_at is not null then
        return query select 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, true;
        return;
    end if;
    if v_batch.truncated_at is not null then
        raise exception using
            errcode = 'TM027',
            message = 'the batch is a TRUNCATE, which cannot be retracted',
            detail = format('table=%s batch=%s', p_dimension_name, p_batch_id),
            hint = 'it ended every row that was in force; what the source has again comes with later batches, or by "tidemark reconcile"';
    end if;
    v_pruned_before := (select d.pruned_before from tidemark.dimensions as d where d.dimension_name = p_dimension_name);
    if v_batch.least_captured_at < v_pruned_before then
        raise exception using
            errcode = 'TM018',
            message = 'a change of the batch was captured before the moment up to which absorbed changes were pruned',
            detail = format(
                'table=%s batch=%s captured_at=%s pruned_before=%s',
                p_dimension_name, p_batch_id, v_batch.least_captured_at, v_pruned_before
            ),
            hint = format(
                'one of those might matter without it: "tidemark rebuild --table %s" brings them back, if every batch file is there',
                p_dimension_name
            );
    end if;

    v_batch.retracted_at := clock_timestamp();
    v_result := tidemark._retract_changes(v_batch);
    insert into tidemark.retractions (
        dimension_name, shard, batch_id, retracted_at, retracted_by, reason, retracted_changes
    )
    values (
        p_dimension_name, v_batch.shard, v_batch.batch_id, v_batch.retracted_at,
        tidemark._who(p_who), p_reason, v_result.retracted_changes
    );
    perform tidemark._note_action(p_dimension_name, 'retract', p_who, p_reason, p_batch_id, v_result.retracted_changes);
    perform tidemark._settle_anew(p_dimension_name);
    return query
    select v_result.retracted_changes, v_result.removed_versions, v_result.opened_versions, v_result.closed_versions,
        v_result.corrected_versions, false;
end;
$$;

revoke execute on function tidemark.retract_batch (text, text, text, text) from public;

create or replace function tidemark._named_batch(
    p_dimension_name text,
    p_batch_id text
)
returns tidemark.batches
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The batch of that name, of whatever shard: a name is used once a table. Errors: TM027 the ledger does not have it.
declare
    v_batch tidemark.batches;
begin
    select b.* into v_batch
    from tidemark.batches as b
    where b.dimension_name = p_dimension_name and b.batch_id = p_batch_id;
    if not found then
        raise exception using
            errcode = 'TM027',
            message = 'the ledger has no batch of that name',
            detail = format('table=%s batch=%s', p_dimension_name, p_batch_id),
            hint = format('"tidemark batch list %s" shows those it has; what is not loaded yet need not be retracted', p_dimension_name);
    end if;
    return v_batch;
end;
$$;

create or replace function tidemark._retract_changes(
    p_batch tidemark.batches,
    out retracted_changes bigint,
    out removed_versions bigint,
    out opened_versions bigint,
    out closed_versions bigint,
    out corrected_versions bigint
)
returns record
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Moves the changes of a batch (with its new retracted_at) from where they are to tidemark.retracted_changes, and folds their keys anew
-- from before the first of them. A version is printed as its change was: with the untracked values that it had first, without those of
-- columns that the batch lacked. The caller holds the dimension and knows that nothing that matters was pruned.
-- Where events are published, what goes is noted as retracted, and what the fold puts there instead follows.
declare
    v_lists jsonb := tidemark._column_lists(p_batch.dimension_name);
    v_event_group bigint := nextval('tidemark.event_groups_group_id_seq');
    v_folded record;
    v_absorbed bigint;
    v_rejected bigint;
begin
    execute tidemark._laid_out(
        $statement$
        with
{local}        gone as (
{local}            delete from {history} as h
{local}            where h.batch_id::text = $2
{local}            returning h.*
{local}        ),
{distributed}        gone as materialized (
{distributed}            select h.* from {history} as h where h.batch_id::text = $2
{distributed}        ),
{events}        noted as (
{events}            insert into tidemark.events (group_id, place, kind, business_key, version_key, effective_at, change_line)
{events}            select $4, row_number() over (order by h.valid_from, h.surrogate_key), 'retracted',
{events}                json_build_object({printed_stored_key})::text, h.surrogate_key, h.valid_from{at_utc}, h.change_line
{events}            from gone as h
{events}        ),
        forgotten as (
            delete from tidemark.first_values as f
            using gone as h
            where f.dimension_name = {dimension} and f.surrogate_key = h.surrogate_key
            returning f.surrogate_key, f.values_before
        ),
        version as (
            select {version_values}, h.surrogate_key as _surrogate_key, h.change_line as _line, h.cdc_operation as _operation,
                h.cdc_timestamp{at_utc} as _effective, h.captured_at as _captured_at
            from gone as h
            cross join lateral (select {stored_key_values}) as c
            cross join (select $3::text[] as _lacks) as b
            left join forgotten as f on f.surrogate_key = h.surrogate_key
{untracked}            left join lateral (
{untracked}                select {stored_first_values}
{untracked}                from rows from (json_to_record(f.values_before) as ({read_untracked_as})) as c ({untracked_columns})
{untracked}            ) as o on true
        )
        insert into tidemark.retracted_changes (
            dimension_name, shard, batch_id, change_line, business_key,
            cdc_operation, cdc_timestamp, captured_at, surrogate_key, change
        )
        select {dimension}, $1, $2, c._line, json_build_object({printed_key})::text,
            c._operation, c._effective, c._captured_at, c._surrogate_key,
            (select row_to_json(r.*) from (
                select {printed},
                    c._operation as operation_type, c._effective as cdc_timestamp, c._captured_at as extracted_at
            ) as r)
        from version as c
        $statement$,
        v_lists
    )
    using p_batch.shard, p_batch.batch_id, tidemark._lacking(p_batch.columns, array(
        select c.source_column
        from tidemark.dimension_columns as c
        where c.dimension_name = p_batch.dimension_name and c.may_be_missing
    )), v_event_group;
    get diagnostics removed_versions = row_count;
    if v_lists -> 'distributed' <> '[]' then
        execute format('delete from %s as h where h.batch_id::text = $1', v_lists ->> 'history') using p_batch.batch_id;
    end if;
    if v_lists -> 'events' <> '[]' then
        insert into tidemark.events (group_id, place, kind, is_end, business_key, effective_at, change_line)
        select v_event_group, removed_versions + row_number() over (order by a.closed_at, a.change_line), 'retracted', true,
            a.business_key, a.closed_at, a.change_line
        from tidemark.absorbed_changes as a
        where a.dimension_name = p_batch.dimension_name and a.shard = p_batch.shard and a.batch_id = p_batch.batch_id
            and a.reason = 'delete';
        perform tidemark._note_event_group(v_event_group, p_batch.dimension_name, p_batch.batch_id);
    end if;

    with gone as (
        delete from tidemark.absorbed_changes as a
        where a.dimension_name = p_batch.dimension_name and a.shard = p_batch.shard and a.batch_id = p_batch.batch_id
        returning a.*
    )
    insert into tidemark.retracted_changes (
        dimension_name, shard, batch_id, change_line, business_key,
        cdc_operation, cdc_timestamp, captured_at, surrogate_key, change
    )
    select g.dimension_name, g.shard, g.batch_id, g.change_line, g.business_key,
        g.cdc_operation, g.cdc_timestamp, g.captured_at, g.surrogate_key, g.change
    from gone as g;
    get diagnostics v_absorbed = row_count;

    with gone as (
        delete from tidemark.rejected_changes as r
        where r.dimension_name = p_batch.dimension_name and r.shard = p_batch.shard and r.batch_id = p_batch.batch_id
        returning r.*
    )
    insert into tidemark.retracted_changes (dimension_name, shard, batch_id, change_line, business_key, captured_at, rejected, change)
    select g.dimension_name, g.shard, g.batch_id, g.change_line, g.business_key,
        tidemark._capture_time(g.change, p_batch.extracted_at),
        (select row_to_json(r.*) from (
            select g.reason, g.column_name, g.value, g.rejected_at, g.dismissed_at, g.dismissed_by, g.dismiss_reason,
                g.settled_at, g.settled_by_batch, g.settled_by_line
        ) as r),
        g.change
    from gone as g;
    get diagnostics v_rejected = row_count;

    update tidemark.batches as b
    set retracted_at = p_batch.retracted_at
    where b.dimension_name = p_batch.dimension_name and b.shard = p_batch.shard and b.batch_id = p_batch.batch_id;
    v_folded := tidemark._fold_retracted(p_batch);
    -- That a key had versions is still known of the time before.
    execute tidemark._laid_out(
        $statement$
        insert into tidemark.former_keys (dimension_name, business_key)
        select distinct {dimension}, r.business_key
        from tidemark.retracted_changes as r
        cross join lateral json_to_record(r.business_key::json) as c ({keys_as})
        where r.dimension_name = {dimension} and r.shard = $1 and r.batch_id = $2 and r.surrogate_key is not null
            and not exists (select from {versions} as h where {same_key: and})
        on conflict do nothing
        $statement$,
        v_lists
    )
    using p_batch.shard, p_batch.batch_id;
    retracted_changes := removed_versions + v_absorbed + v_rejected;
    opened_versions := v_folded.inserted_versions;
    closed_versions := v_folded.closed_versions;
    corrected_versions := v_folded.corrected_versions;
end;
$$;

create or replace function tidemark._fold_retracted(
    p_batch tidemark.batches,
    out inserted_versions bigint,
    out closed_versions bigint,
    out corrected_versions bigint
)
returns record
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Folds the keys of a batch that is retracted (p_batch.retracted_at) anew, from before the first of its changes that are in
-- tidemark.retracted_changes: where they were taken out just now, or are on their way back. Those that were rejected are no part of it.
declare
    v_changes json;
begin
    select coalesce(json_agg(r.change), '[]') into v_changes
    from tidemark.retracted_changes as r
    where r.dimension_name = p_batch.dimension_name and r.shard = p_batch.shard and r.batch_id = p_batch.batch_id and r.rejected is null;
    select f.inserted_versions, f.closed_versions, f.corrected_versions
    into inserted_versions, closed_versions, corrected_versions
    from tidemark._fold_changes(p_batch, v_changes, null, 'infinity') as f;
end;
$$;

create or replace function tidemark._settle_anew(
    p_dimension_name text
)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Rejected changes that a change of a retracted batch has settled wait again, unless another later change of their key settles them.
update tidemark.rejected_changes as r
set settled_at = null, settled_by_batch = null, settled_by_line = null
from tidemark.batches as b
where r.dimension_name = p_dimension_name and r.settled_at is not null
    and b.dimension_name = p_dimension_name and b.batch_id = r.settled_by_batch and b.retracted_at is not null;
select tidemark._settle_rejected(p_dimension_name, null, null, null);
$$;
