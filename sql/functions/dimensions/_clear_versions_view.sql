create or replace function tidemark._clear_versions_view()
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Replaces the views of tidemark._create_versions_view by ones of the same columns that show nothing, so that history tables can be
-- altered or dropped. Replaced, not dropped: somebody may have built on them, or granted them. That function fills them again.
create or replace view tidemark.versions as
select
    null::text as dimension_name,
    null::text as business_key,
    null::bigint as surrogate_key,
    null::timestamptz as valid_from,
    null::timestamptz as valid_to,
    null::boolean as is_current,
    null::text as cdc_operation,
    null::timestamptz as cdc_timestamp,
    null::text as batch_id,
    null::integer as change_line,
    null::timestamptz as captured_at,
    null::text as tracked_values
where false;

create or replace view tidemark.neighbours as
select
    null::text as dimension_name,
    null::text as business_key,
    null::bigint as surrogate_key,
    null::timestamptz as valid_from,
    null::timestamptz as valid_to,
    null::text as cdc_operation,
    null::bigint as previous_surrogate_key,
    null::timestamptz as previous_valid_to,
    null::bigint as next_surrogate_key,
    null::timestamptz as next_valid_from,
    null::boolean as equals_previous,
    null::text as tracked_values
where false;

create or replace view tidemark.keys_in_force as
select null::text as dimension_name, null::text as business_key, null::bigint as current_versions
where false;

create or replace view tidemark.odd_versions as
select
    null::text as dimension_name,
    null::text as business_key,
    null::bigint as surrogate_key,
    null::timestamptz as valid_from,
    null::timestamptz as valid_to,
    null::boolean as is_current,
    null::text as batch_id,
    null::integer as change_line,
    null::boolean as has_batch
where false;

create or replace view tidemark.version_lines as
select
    null::text as dimension_name,
    null::text as batch_id,
    null::integer as block,
    null::bigint as versions,
    null::bit(1024) as lines
where false;

create or replace view tidemark.repeated_surrogate_keys as
select
    null::text as dimension_name,
    null::text as business_key,
    null::bigint as surrogate_key,
    null::timestamptz as valid_from
where false;
$$;
