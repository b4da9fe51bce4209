-- Reads the frame of a batch: who it is, how many changes it must hold, and the changes as they came.
-- Four fields are enough (batch_id, extracted_at, change_count, watermark); without "table" the batch belongs to orders.
-- Errors: TM001 not a batch, or a field that is missing or cannot be read; TM002 its table is not registered;
-- TM008 the change lines are not those the checksum was taken of.
-- A batch may be large: its changes are handed on in a variable, never in a row of a query.
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
    out metadata json,
    out columns json,
    out changes json
)
returns record
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_fault text;
    v_named record;
begin
    metadata := p_metadata;
    v_fault := case
        when json_typeof(p_metadata) is distinct from 'object' then 'batch_metadata is missing or not an object'
        when json_typeof(p_changes) is distinct from 'array' then 'changes is missing or not an array'
        when nullif(p_metadata ->> 'batch_id', '') is null then 'batch_metadata has no batch_id'
        when octet_length(p_metadata ->> 'batch_id') > 100 then 'batch_id is longer than 100 bytes'
        when (p_metadata ->> 'change_count') is null or (p_metadata ->> 'change_count') !~ '^[0-9]{1,9}$'
            then 'change_count is missing or not a whole number'
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
    checksum := tidemark.batch_checksum(p_changes);
    if (p_metadata ->> 'checksum') <> checksum then
        raise exception using
            errcode = 'TM008',
            message = 'the checksum does not fit the change lines',
            detail = format('batch=%s stated=%s found=%s', batch_id, p_metadata ->> 'checksum', checksum),
            hint = 'the file was altered after it was written: restore it, or extract again';
    end if;
    if not exists (select from tidemark.dimensions as d where d.dimension_name = _read_batch.dimension_name) then
        raise exception using
            errcode = 'TM002',
            message = 'no dimension of that name is registered',
            detail = format('batch=%s table=%s', batch_id, dimension_name),
            hint = 'register it with a migration in migrations/dimensions, then run: npm run migrate';
    end if;

    v_named := tidemark._with_present_names(
        dimension_name,
        case when json_typeof(p_metadata -> 'history_columns') = 'object' then p_metadata -> 'history_columns' end,
        extracted_at,
        case when p_metadata ->> 'checksum' is not null then p_metadata -> 'columns' end,
        p_changes
    );
    columns := v_named.p_columns;
    changes := v_named.p_changes;
end;
$$;
