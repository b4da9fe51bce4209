create or replace function tidemark.effective_time(
    p_time text,
    p_source_time_zone text
)
returns timestamptz
language sql
stable
strict
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
-- The instant that a time of the source stands for, from the text PostgreSQL prints: with a zone as it is, without one in the source's
-- zone. Null for infinity, and for whatever is no time: a document made by hand must not spoil the indicators.
select case
    when p_time ~ '^[0-9]{4,6}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?(Z|[+-][0-9]{2}(:[0-9]{2}){0,2})$'
        then p_time::timestamptz
    when p_time ~ '^[0-9]{4,6}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?)?$'
        then p_time::timestamp at time zone p_source_time_zone
end;
$$;
