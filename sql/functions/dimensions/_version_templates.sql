-- The arm of one dimension in each view that tidemark._create_versions_view makes, with the fragments of tidemark._version_fragments.
-- Columns are renamed inside, so that no column of a history can be mistaken for one that is added.
create or replace function tidemark._version_templates()
returns table (
    view_name text,
    template text
)
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
values
(
    'versions',
    $arm$
    select
        {dimension}::text as dimension_name,
        json_build_object({history_key_pairs})::text as business_key,
        h.surrogate_key::bigint as surrogate_key,
        h.valid_from{at_utc} as valid_from,
        h.valid_to{at_utc} as valid_to,
        h.is_current,
        h.cdc_operation::text collate "default" as cdc_operation,
        h.cdc_timestamp{at_utc} as cdc_timestamp,
        h.batch_id::text collate "default" as batch_id,
        h.change_line::integer as change_line,
        h.captured_at,
        row({tracked_columns})::text as tracked_values
    from {history} as h
    $arm$
),
(
    'neighbours',
    $arm$
    select
        {dimension}::text as dimension_name,
        json_build_object({key_pairs})::text as business_key,
        v.surrogate_key::bigint as surrogate_key,
        v.valid_from{at_utc} as valid_from,
        v.valid_to{at_utc} as valid_to,
        v.cdc_operation::text collate "default" as cdc_operation,
        v.previous_surrogate_key::bigint as previous_surrogate_key,
        v.previous_valid_to{at_utc} as previous_valid_to,
        v.next_surrogate_key::bigint as next_surrogate_key,
        v.next_valid_from{at_utc} as next_valid_from,
        {equals_previous} as equals_previous,
        row({compared_names})::text as tracked_values
    from (
        select
            {keys}, h.surrogate_key, h.valid_from, h.valid_to, h.cdc_operation{compared_values}{previous_values},
            lag(h.surrogate_key) over by_key as previous_surrogate_key,
            lag(h.valid_to) over by_key as previous_valid_to,
            lead(h.surrogate_key) over by_key as next_surrogate_key,
            lead(h.valid_from) over by_key as next_valid_from
        from {history} as h
        window by_key as (partition by {key_columns} order by h.valid_from, h.surrogate_key)
    ) as v
    $arm$
),
(
    'keys_in_force',
    $arm$
    select {dimension}::text as dimension_name, json_build_object({key_pairs})::text as business_key, v.current_versions
    from (select {keys}, count(*) as current_versions from {history} as h where h.is_current group by {key_columns}) as v
    $arm$
);
$$;
