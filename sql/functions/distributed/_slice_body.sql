create or replace function tidemark._slice_body(
    p_lists jsonb
)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
-- Writes the body of tidemark.slice_<dimension>_<shard>, which runs on the node that holds a shard of a distributed history and says what
-- the coordinator must send along, as it alone has the ledger and the changes that are kept aside: which batches opened the versions that
-- changes can alter, and where the slice of each key begins. The slice is that of tidemark._converge_body.
select tidemark._laid_out($text$
-- What of {name} the changes of a batch can meet on this node: {"keys": [[key, capture time of the version the slice begins with], ...],
-- "versions": [[batch, surrogate key], ...]}. p_is_last: only the last version of each key.
-- Written by tidemark.compile_dimension: change the mapping or the history, and compile it again, never this.
#variable_conflict use_column
begin
    return (
        with change as materialized (
            select coalesce(c._effective, {captures_read}) as _effective,
                coalesce(c._extracted_at::timestamptz, p_batch.extracted_at) as _captured_at,
                {stored_keys}
            from rows from (json_to_recordset(p_changes) as (
                {read_keys_as}, cdc_timestamp timestamptz, extracted_at text
            )) as c ({keys}, _effective, _extracted_at)
        ),
        affected as (
            select c.*, json_build_object({printed_key})::text as _business_key
{by_capture}            from (select {key_values}, min(c._captured_at) as _earliest from change as c group by {key_values}) as c
{by_time}            from (select {key_values}, min({own_time}) as _earliest from change as c group by {key_values}) as c
        ),
        anchored as materialized (
            select c.*, v._anchor_from, v._anchor_captured_at
            from affected as c
            left join lateral (
                select h.valid_from as _anchor_from, h.captured_at as _anchor_captured_at
                from {history} as h
{by_capture}                where {same_key: and} and (p_is_last or h.captured_at < c._earliest)
{by_time}                where {same_key: and} and (p_is_last or h.valid_from < c._earliest{at_utc})
                order by h.valid_from desc
                limit 1
            ) as v on true
        )
        select json_build_object(
            'keys', (select json_agg(json_build_array(c._business_key, c._anchor_captured_at)) from anchored as c),
            'versions', (
                select json_agg(json_build_array(h.batch_id, h.surrogate_key))
                from anchored as c
                cross join lateral (
                    select h.batch_id::text as batch_id, h.surrogate_key
                    from {history} as h
                    where {same_key: and} and h.valid_from >= coalesce(c._anchor_from, '-infinity')
                    offset 0
                ) as h
            )
        )
    );
end;
$text$, p_lists);
$$;
