-- Replaces tidemark.versions by one of the same columns that shows nothing, so that history tables can be altered or dropped.
-- Replaced, not dropped: somebody may have built on it, or granted it. tidemark._create_versions_view fills it again.
create or replace function tidemark._clear_versions_view()
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
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
$$;
