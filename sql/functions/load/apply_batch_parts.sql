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
-- Applies one batch to its history, in whatever order batches come, and writes its row of the ledger in the same transaction.
-- Takes the two members of a batch document, batch_metadata and changes, each by itself: a loader that has them apart need not put
-- them together only for tidemark.apply_batch to part them again.
-- Safe to repeat: the ledger knows a batch by its name and checksum, and answers already_applied.
-- A change that cannot be applied is set aside in tidemark.rejected_changes and stops no other. One that waits there is settled by a
-- later change of its key (tidemark._settle_rejected).
-- Takes a transaction-level advisory lock on the dimension (a shard: shared, and its own), so that loaders queue. Where a row may move
-- from shard to shard (shard_layout.by_key is false) a batch counts as one of the whole table, for the lock and for the order.
-- A batch of the log (its metadata have "log") is loaded after the one before it in its chain; values that did not change are filled in,
-- a marked row is a DELETE where deletes are soft, and a TRUNCATE is one of every key in force.
-- Where the batch says that a column of the source was widened, its history column is, first (tidemark._follow_wider_columns).
-- Runs with the rights of its owner: a role that may execute it needs no right on any table.
-- Lines of a key that was forgotten are in it no more (forgotten_lines): the others keep their numbers, and change_count counts all.
-- Or they are shells: each opens a version, or ends one, though it has no value.
-- Errors: TM001 not a batch, TM002 unknown table, TM003 fork, TM004 an unmapped column, TM006 isolation level, TM008 checksum,
-- TM018 a change captured before what was pruned, TM022 an unknown format, TM024 a column that cannot be widened, TM026 the batch before
-- one of the log is not loaded, TM030 it holds what was forgotten.
#variable_conflict use_column
declare
    v_started timestamptz := clock_timestamp();
    v_read record;
    v_batch tidemark.batches;
    v_result record;
    v_scope text;
    v_in_order_since timestamptz;
    v_lines integer [];
begin
    perform tidemark._assert_read_committed('apply_batch');
    v_read := tidemark._read_batch(p_metadata, p_changes);
    if v_read.renamed_changes is not null then
        p_changes := v_read.renamed_changes;
    end if;
    perform tidemark._follow_wider_columns(v_read.dimension_name, v_read.metadata);
    v_scope := case when v_read.metadata #>> '{shard_layout,by_key}' = 'false' then '' else v_read.shard end;
    perform tidemark._lock_dimension(v_read.dimension_name, v_scope);
    perform tidemark._assert_nothing_forgotten(v_read.dimension_name, v_read.shard, v_read.batch_id, v_read.content_checksum);
    if tidemark._is_already_applied(v_read.dimension_name, v_read.shard, v_read.batch_id, v_read.sequence, v_read.checksum) then
        return query select 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, true;
        return;
    end if;

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
    v_batch.is_logged := coalesce(json_typeof(v_read.metadata -> 'log') = 'object', false);
    if v_read.forgotten_lines > 0 then
        v_batch.forgotten_changes := v_read.forgotten_lines;
        v_lines := tidemark._lines_left(v_read.metadata);
    end if;
    if json_array_length(v_read.metadata -> 'shells') > 0 then
        p_changes := tidemark._note_shells(v_read.dimension_name, v_read.metadata, p_changes);
    end if;
    v_batch.columns := tidemark._batch_columns(v_read.dimension_name, v_read.batch_id, v_read.columns, p_changes);
    perform tidemark._note_missing_columns(v_batch.dimension_name, v_batch.columns);

    -- The fold knows of shells, the quick way does not.
    v_in_order_since := case
        when json_array_length(v_read.metadata -> 'shells') > 0 then 'infinity'
        else tidemark._in_order_since(v_batch.dimension_name, v_scope, v_batch.batch_id, v_batch.sequence)
    end;
    if v_batch.is_logged then
        perform tidemark._assert_log_in_order(v_batch);
        -- A transaction may be spread over batches: what has the capture time of the batch before may supersede what is loaded.
        v_in_order_since := v_in_order_since + interval '1 microsecond';
        v_batch.truncated_at := tidemark._truncated_at(v_batch, p_changes);
    end if;
    if v_batch.truncated_at is not null then
        select * into v_result from tidemark._apply_truncation(v_batch, p_changes -> 0, v_in_order_since);
        v_batch.truncated_keys := v_result.truncated_keys;
    else
        select * into v_result from tidemark._apply_changes(v_batch, p_changes, v_lines, v_in_order_since);
    end if;
    if v_result.change_count + v_read.forgotten_lines <> v_batch.change_count then
        raise exception using
            errcode = 'TM001',
            message = 'change_count does not fit the changes',
            detail = format('batch=%s stated=%s found=%s', v_batch.batch_id, v_batch.change_count, v_result.change_count),
            hint = 'the file was cut or altered after it was written: restore it, or extract again';
    end if;

    v_batch.least_captured_at := coalesce(v_result.least_captured_at, v_batch.extracted_at);
    v_batch.greatest_captured_at := coalesce(v_result.greatest_captured_at, v_batch.extracted_at);
    perform tidemark._assert_not_pruned(v_batch.dimension_name, v_batch.batch_id, v_batch.least_captured_at);
    v_batch.inserted_versions := v_result.inserted_versions;
    v_batch.closed_versions := v_result.closed_versions;
    v_batch.absorbed_changes := v_result.absorbed_changes;
    v_batch.corrected_versions := v_result.corrected_versions;
    v_batch.late_changes := v_result.late_changes;
    v_batch.rejected_changes := v_result.rejected_changes;
    v_batch.applied_at := clock_timestamp();
    insert into tidemark.batches select v_batch.*;
    perform tidemark._note_commit_times(v_batch);
    if v_read.metadata ->> 'content_checksum' is null then
        perform tidemark._settle_rejected(v_batch.dimension_name, v_batch.shard, v_batch.batch_id, p_changes);
    else
        -- It may come from elsewhere: what it lacks is known from now on.
        insert into tidemark.forgotten_contents (dimension_name, shard, batch_id, content_checksum, forgotten_lines)
        values (v_batch.dimension_name, v_batch.shard, v_batch.batch_id, v_read.content_checksum, v_read.forgotten_lines)
        on conflict do nothing;
        perform tidemark._settle_rejected(v_batch.dimension_name, null, null, null);
    end if;

    return query
    select v_result.inserted_versions, v_result.closed_versions, v_result.absorbed_changes,
        v_result.corrected_versions, v_result.late_changes, v_result.rejected_changes, false;
end;
$$;

revoke execute on function tidemark.apply_batch_parts (json, json) from public;

create or replace function tidemark._read_batch(
    p_metadata json,
    p_changes json,
    out dimension_name text,
    out shard text,
    out batch_id text,
    out sequence bigint,
    out extracted_at timestamptz,
    out change_count integer,
    out previous_checksum text,
    out checksum text,
    out content_checksum text,
    out forgotten_lines integer,
    out metadata json,
    out columns json,
    out renamed_changes json
)
returns record
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Reads the frame of a batch: who it is, how many changes it must hold, and its changes where they are others than p_changes, with other
-- names; else null.
-- Four fields are enough (batch_id, extracted_at, change_count, watermark); without "table" the batch belongs to orders.
-- A batch states a format ("format": 2) where it uses a member that a loader which does not know it would misread.
-- Errors: TM001 not a batch, or a field that is missing or cannot be read; TM002 its table is not registered;
-- TM008 the change lines are not those the checksum was taken of; TM022 an unknown format.
-- content_checksum is that of the change lines that are there; checksum that of those which were captured: where a key was forgotten
-- since, the metadata have both, and the numbers of the lines that are gone.
-- A batch may be large: its changes are handed on in a variable, never in a row of a query, nor in a record, which copies them.
declare
    v_fault text;
    v_named record;
    v_stated text;
begin
    metadata := p_metadata;
    if json_typeof(p_metadata) = 'object' and coalesce(p_metadata ->> 'format', '1') not in ('1', '2') then
        raise exception using
            errcode = 'TM022',
            message = 'the batch has a format that this release does not know',
            detail = format('batch=%s format=%s known=1, 2', coalesce(p_metadata ->> 'batch_id', '(none)'), p_metadata ->> 'format'),
            hint = 'a newer release wrote it: upgrade this one, run "tidemark migrate", then load again';
    end if;
    v_fault := case
        when json_typeof(p_metadata) is distinct from 'object' then 'batch_metadata is missing or not an object'
        when json_typeof(p_changes) is distinct from 'array' then 'changes is missing or not an array'
        when nullif(p_metadata ->> 'batch_id', '') is null then 'batch_metadata has no batch_id'
        when octet_length(p_metadata ->> 'batch_id') > 100 then 'batch_id is longer than 100 bytes'
        when (p_metadata ->> 'change_count') is null or (p_metadata ->> 'change_count') !~ '^[0-9]{1,9}$'
            then 'change_count is missing or not a whole number'
        when json_typeof(p_metadata -> 'forgotten_lines') <> 'array' then 'forgotten_lines is not an array'
        when json_typeof(p_metadata -> 'shells') <> 'array' then 'shells is not an array'
        when (p_metadata ->> 'sequence') !~ '^[1-9][0-9]{0,17}$' then 'sequence is not a whole number from 1'
        when (p_metadata ->> 'extracted_at') is null then 'batch_metadata has no extracted_at'
        when (p_metadata ->> 'extracted_at') !~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}'
            then 'extracted_at is not an ISO 8601 instant'
    end;
    if v_fault is null then
        begin
            extracted_at := (p_metadata ->> 'extracted_at')::timestamptz;
        exception
            when data_exception then
                v_fault := format('extracted_at cannot be read: %s', sqlerrm);
        end;
    end if;
    if v_fault is not null then
        raise exception using
            errcode = 'TM001',
            message = format('the document is not a batch: %s', v_fault),
            detail = format('batch=%s', coalesce(p_metadata ->> 'batch_id', '(none)')),
            hint = 'docs/architecture.md describes the batch file';
    end if;

    dimension_name := coalesce(p_metadata ->> 'table', 'orders');
    shard := coalesce(p_metadata ->> 'shard', '');
    batch_id := p_metadata ->> 'batch_id';
    sequence := (p_metadata ->> 'sequence')::bigint;
    change_count := (p_metadata ->> 'change_count')::integer;
    previous_checksum := p_metadata ->> 'previous_checksum';
    forgotten_lines := coalesce(json_array_length(p_metadata -> 'forgotten_lines'), 0);
    content_checksum := tidemark.batch_checksum(p_changes);
    checksum := case
        when p_metadata ->> 'content_checksum' is null then content_checksum
        else coalesce(p_metadata ->> 'checksum', p_metadata ->> 'original_checksum')
    end;
    v_stated := coalesce(p_metadata ->> 'content_checksum', p_metadata ->> 'checksum');
    if v_stated <> content_checksum then
        raise exception using
            errcode = 'TM008',
            message = 'the checksum does not fit the change lines',
            detail = format('batch=%s stated=%s found=%s', batch_id, v_stated, content_checksum),
            hint = 'the file was altered after it was written: restore it, or extract again';
    end if;
    if not exists (select from tidemark.dimensions as d where d.dimension_name = _read_batch.dimension_name) then
        raise exception using
            errcode = 'TM002',
            message = 'no dimension of that name is registered',
            detail = format('batch=%s table=%s', batch_id, dimension_name),
            hint = 'register it with a migration in migrations/dimensions, then run: npx tidemark migrate';
    end if;

    v_named := tidemark._with_present_names(
        dimension_name,
        case when json_typeof(p_metadata -> 'history_columns') = 'object' then p_metadata -> 'history_columns' end,
        extracted_at,
        case when p_metadata ->> 'checksum' is not null then p_metadata -> 'columns' end,
        p_changes
    );
    columns := v_named.p_columns;
    renamed_changes := v_named.renamed_changes;
end;
$$;

create or replace function tidemark._with_present_names(
    p_dimension_name text,
    p_history_columns json,
    p_extracted_at timestamptz,
    inout p_columns json,
    p_changes json,
    out renamed_changes json
)
returns record
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Changes from before a rename at the source, with the names of today (tidemark._present_names): columns as the batch states them, and
-- its changes. Of any other batch the columns come back as they were, and no changes. p_history_columns is what the batch says of its
-- names, null where nothing.
-- A batch that states its columns has one set of names. A document from elsewhere does not: each change goes by its own names and its
-- own capture time; changes of one shape, between the same two renames, are looked at once.
declare
    v_former text [];
    v_present text [];
begin
    if not exists (select from tidemark.former_column_names as f where f.dimension_name = p_dimension_name) then
        return;
    end if;
    if p_columns is null then
        with given as materialized (
            select e.change, e.place, k.captured_at,
                case
                    when json_typeof(e.change) = 'object' then array(select n.name from json_object_keys(e.change) as n (name))
                end as names,
                (
                    select count(*)
                    from tidemark.former_column_names as f
                    where f.dimension_name = p_dimension_name and k.captured_at < f.renamed_at
                ) as renames_ahead
            from json_array_elements(p_changes) with ordinality as e (change, place)
            cross join lateral (select tidemark._capture_time(e.change, p_extracted_at) as captured_at offset 0) as k
        ),
        renamed as (
            select s.names, s.renames_ahead, n.former_names, n.present_names
            from (
                select g.names, g.renames_ahead, min(g.captured_at) as captured_at
                from given as g
                group by g.names, g.renames_ahead
            ) as s
            cross join lateral tidemark._present_names(p_dimension_name, s.names, p_history_columns, s.captured_at) as n
            where n.former_names is not null
        )
        select json_agg(
            case
                when r.former_names is null then g.change
                else tidemark._rename_members(g.change, r.former_names, r.present_names)
            end
            order by g.place
        ) filter (where exists (select from renamed))
        into renamed_changes
        from given as g
        left join renamed as r using (names, renames_ahead);
        return;
    end if;

    select n.former_names, n.present_names
    into v_former, v_present
    from tidemark._present_names(
        p_dimension_name, array(select c.name from json_array_elements_text(p_columns) as c (name)), p_history_columns, p_extracted_at
    ) as n;
    if v_former is null then
        return;
    end if;
    p_columns := (
        select json_agg(coalesce(v_present[array_position(v_former, c.name)], c.name) order by c.place)
        from json_array_elements_text(p_columns) with ordinality as c (name, place)
    );
    renamed_changes := (
        select json_agg(
            case when json_typeof(e.change) = 'object' then tidemark._rename_members(e.change, v_former, v_present) else e.change end
            order by e.place
        )
        from json_array_elements(p_changes) with ordinality as e (change, place)
    );
end;
$$;

create or replace function tidemark._present_names(
    p_dimension_name text,
    p_names text [],
    p_history_columns json,
    p_captured_at timestamptz,
    out former_names text [],
    out present_names text []
)
returns record
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Which columns of a change, or of all changes of a batch, have another name today: the names they have there, and those in
-- tidemark.dimension_columns.
-- A batch says which history columns its names meant (history_columns): so a name that was given to another column since is told
-- from the one it is now, whatever the order of loading. Times, and documents from elsewhere, go by the names alone: a former name
-- counts where the change has it and has not the present one; where it is a mapped or ignored column of its own by now, only if the
-- change was captured before the mapping followed the rename.
with meant as (
    select m.name, c.source_column as present_name
    from json_each_text(p_history_columns) as m (name, history_column)
    join tidemark.dimension_columns as c
        on c.dimension_name = p_dimension_name and c.history_column = m.history_column and c.column_role not like '% time'
    where m.name = any (p_names)
),
guessed as (
    select distinct on (f.former_name) f.former_name as name, f.source_column as present_name
    from tidemark.former_column_names as f
    where f.dimension_name = p_dimension_name and f.former_name = any (p_names) and f.source_column <> all (p_names)
        and f.former_name not in (select m.name from meant as m)
        and (
            p_captured_at < f.renamed_at
            or not exists (
                select
                from tidemark.dimension_columns as c
                where c.dimension_name = p_dimension_name and c.source_column = f.former_name
                union all
                select
                from tidemark.ignored_columns as i
                where i.dimension_name = p_dimension_name and i.source_column = f.former_name
            )
        )
    order by f.former_name, f.renamed_at
),
named as (
    select m.name, m.present_name from meant as m
    union all
    select g.name, g.present_name from guessed as g
)
select array_agg(n.name order by n.name), array_agg(n.present_name order by n.name)
from named as n
where n.name <> n.present_name;
$$;

create or replace function tidemark._note_shells(
    p_dimension_name text,
    p_metadata json,
    inout p_changes json
)
returns json
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Notes which keys of a batch stand for forgotten ones, by the numbers of their lines (shells), so that the fold takes none of their
-- changes for a repetition of another. Returns the changes without the member "forgotten", which begins such a line and is no column.
declare
    v_shells json;
begin
    select
        json_agg(e.change order by e.place) filter (where s.is_shell),
        json_agg(
            case when s.is_shell then regexp_replace(e.change::text, '^\{"forgotten":\d+,', '{')::json else e.change end order by e.place
        )
    into v_shells, p_changes
    from json_array_elements(p_changes) with ordinality as e (change, place)
    join unnest(tidemark._lines_left(p_metadata)) with ordinality as n (line, place) using (place)
    cross join lateral (
        select n.line::text in (select m.line from json_array_elements_text(p_metadata -> 'shells') as m (line)) as is_shell
    ) as s;
    execute tidemark._laid_out(
        $statement$
        insert into tidemark.shell_keys (dimension_name, business_key)
        select distinct {dimension}, json_build_object({printed_key})::text
        from (select {stored_keys} from rows from (json_to_recordset($1) as ({read_keys_as})) as c ({keys})) as c
        on conflict do nothing
        $statement$,
        tidemark._column_lists(p_dimension_name)
    )
    using v_shells;
end;
$$;

create or replace function tidemark._assert_nothing_forgotten(
    p_dimension_name text,
    p_shard text,
    p_batch_id text,
    p_content_checksum text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Errors: TM030 the batch has other change lines than were left of it when a key was forgotten.
begin
    if exists (
        select
        from tidemark.forgotten_contents as c
        where c.dimension_name = p_dimension_name and c.shard = p_shard and c.batch_id = p_batch_id
            and c.content_checksum <> p_content_checksum
    ) then
        raise exception using
            errcode = 'TM030',
            message = 'the batch holds what was forgotten since it was written',
            detail = format('table=%s batch=%s%s', p_dimension_name, p_batch_id, ' shard=' || nullif(p_shard, '')),
            hint = 'a forgetting is under way, was cut off, or the file is from a backup: once none is under way, '
                'run "tidemark forget --again", which writes the file anew';
    end if;
end;
$$;

create or replace function tidemark._is_already_applied(
    p_dimension_name text,
    p_shard text,
    p_batch_id text,
    p_sequence bigint,
    p_checksum text
)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Looks a batch up in the ledger: true where it is there with the same content.
-- Errors: TM003 where its name (in whatever shard of the table) or its place in the chain is there with other content: two writers made
-- two truths.
declare
    v_applied record;
begin
    select b.batch_id, b.shard, b.sequence, b.checksum into v_applied
    from tidemark.batches as b
    where b.dimension_name = p_dimension_name
        and (b.batch_id = p_batch_id or (b.shard = p_shard and b.sequence = p_sequence))
    order by b.batch_id = p_batch_id desc
    limit 1;

    if not found then
        return false;
    end if;
    if v_applied.batch_id = p_batch_id
        and v_applied.shard = p_shard
        and v_applied.checksum = p_checksum
        and v_applied.sequence is not distinct from p_sequence
    then
        return true;
    end if;
    raise exception using
        errcode = 'TM003',
        message = 'the batch is a fork: the ledger holds another one in its place',
        detail = format(
            'table=%s batch=%s%s sequence=%s checksum=%s; ledger: batch=%s%s sequence=%s checksum=%s',
            p_dimension_name, p_batch_id, ' shard=' || nullif(p_shard, ''), p_sequence, p_checksum,
            v_applied.batch_id, ' shard=' || nullif(v_applied.shard, ''), v_applied.sequence, v_applied.checksum
        ),
        hint = 'find out who else writes this change log; the batch that is in the ledger is the one that counts';
end;
$$;

create or replace function tidemark._assert_not_pruned(
    p_dimension_name text,
    p_batch_id text,
    p_captured_at timestamptz
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- A change captured before the moment up to which absorbed changes were pruned could need one of them: its batch, the earliest of whose
-- capture times is p_captured_at, is refused, so that history is never wrong for it.
-- Batches of the chains never are: pruning stops where they stand.
-- Errors: TM018.
declare
    v_before timestamptz := (select d.pruned_before from tidemark.dimensions as d where d.dimension_name = p_dimension_name);
begin
    if p_captured_at < v_before then
        raise exception using
            errcode = 'TM018',
            message = 'a change was captured before the moment up to which absorbed changes were pruned',
            detail = format('table=%s batch=%s captured_at=%s pruned_before=%s', p_dimension_name, p_batch_id, p_captured_at, v_before),
            hint = 'move the waiting batch files into processed/ of their chain, with every other batch there, and rebuild';
    end if;
end;
$$;

create or replace function tidemark._batch_columns(
    p_dimension_name text,
    p_batch_id text,
    p_stated json,
    p_changes json
)
returns text []
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The source columns that the changes of a batch have, deletes apart: null where there are none but deletes. A batch that
-- Tidemark wrote states them once (p_stated); in any other document every change is looked at.
-- Errors: TM004 where the batch states a column that is not mapped, which would be lost without a word, or not its key.
declare
    v_columns text [];
    v_column text;
    v_fault text;
begin
    if p_stated is null then
        select array_agg(distinct k.name order by k.name)
        into v_columns
        from json_array_elements(p_changes) as e (change)
        cross join lateral json_object_keys(e.change) as k (name)
        where json_typeof(e.change) = 'object' and (e.change ->> 'operation_type') is distinct from 'DELETE'
            and k.name not in ('operation_type', 'cdc_timestamp', 'extracted_at');
        return v_columns;
    end if;

    select array_agg(s.name) into v_columns from json_array_elements_text(p_stated) as s (name);
    select f.column_name, f.fault
    into v_column, v_fault
    from (
        select s.name, 'is not mapped to history'
        from unnest(v_columns) as s (name)
        where s.name not in ('operation_type', 'cdc_timestamp', 'extracted_at') and not exists (
            select from tidemark.dimension_columns as c where c.dimension_name = p_dimension_name and c.source_column = s.name
        )
        union all
        select c.source_column, 'is missing'
        from tidemark.dimension_columns as c
        where c.dimension_name = p_dimension_name and c.column_role = 'business key' and c.source_column <> all (coalesce(v_columns, '{}'))
    ) as f (column_name, fault)
    order by f.column_name
    limit 1;

    if found then
        raise exception using
            errcode = 'TM004',
            message = format('the batch cannot be applied: its column %s %s', v_column, v_fault),
            detail = format('table=%s batch=%s column=%s', p_dimension_name, p_batch_id, v_column),
            hint = 'map the column in a migration in migrations/dimensions, then load again';
    end if;
    return v_columns;
end;
$$;

create or replace function tidemark._note_missing_columns(
    p_dimension_name text,
    p_columns text []
)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Remembers of mapped columns that a batch came without them, so that statements look for versions that lack a value.
update tidemark.dimension_columns as c
set may_be_missing = true
where c.dimension_name = p_dimension_name
    and c.column_role in ('tracked', 'untracked')
    and not c.may_be_missing
    and c.source_column <> all (p_columns);
$$;

create or replace function tidemark._note_commit_times(
    p_batch tidemark.batches
)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Remembers of a table that is captured from the log that a batch brought changes with other times than those of their commits: it was
-- polled (a hand-off, a repair), or commits from before the hand-off took the time after it (tidemark.consistent_until). A batch
-- that ends within a transaction does not know the time of its commit.
update tidemark.dimensions as d
set commit_times_from = p_batch.greatest_captured_at
where d.dimension_name = p_batch.dimension_name and d.capture <> 'poll'
    and (d.commit_times_from < p_batch.greatest_captured_at) is not false
    and (
        not p_batch.is_logged
        or coalesce(json_typeof(p_batch.metadata #> '{log,after}'), 'null') <> 'null'
        or (
            coalesce(json_typeof(p_batch.metadata #> '{log,inside}'), 'null') = 'null'
            and p_batch.greatest_captured_at > (p_batch.metadata #>> '{log,last_commit_time}')::timestamptz
        )
    );
$$;

create or replace function tidemark._in_order_since(
    p_dimension_name text,
    p_shard text,
    p_batch_id text,
    p_sequence bigint
)
returns timestamptz
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- One look at the ledger: the earliest capture time that comes after all that is loaded, for changes of this batch. That is the latest
-- one in the ledger, or a microsecond more: of changes captured at one instant those of the greater sequence are later, those of a
-- document from outside the chain are later than those of the chain, and else those of the greater name. -infinity where nothing is
-- loaded.
-- A shard looks at itself, at batches of the whole table, and at shards of other layouts, which may have had its keys; the whole table
-- looks at every shard. Shards of its own layout have none of its keys.
-- Looks at one batch of each shard, however long the ledger is: the one that brought the latest change. PL/pgSQL, to keep its plan.
begin
    return (
        with recursive shards as (
            select min(b.shard) as shard from tidemark.batches as b where b.dimension_name = p_dimension_name
            union all
            select (select min(b.shard) from tidemark.batches as b where b.dimension_name = p_dimension_name and b.shard > s.shard)
            from shards as s
            where s.shard is not null
        ),
        latest as (
            select n.*
            from shards as s
            cross join lateral (
                select b.greatest_captured_at, coalesce(b.sequence, 9223372036854775807) as sequence,
                    b.batch_id collate "C" as batch_id, b.shard collate "C" as shard
                from tidemark.batches as b
                where b.dimension_name = p_dimension_name and b.shard = s.shard
                order by b.greatest_captured_at desc, b.sequence desc nulls first, b.batch_id collate "C" desc
                limit 1
            ) as n
            where s.shard = p_shard or tidemark._shard_layout(s.shard) <> tidemark._shard_layout(p_shard)
        )
        select coalesce(max(
            case
                when (l.sequence, l.batch_id, l.shard)
                    < (coalesce(p_sequence, 9223372036854775807), p_batch_id collate "C", p_shard collate "C")
                    then l.greatest_captured_at
                else l.greatest_captured_at + interval '1 microsecond'
            end
        ), '-infinity')
        from latest as l
    );
end;
$$;
