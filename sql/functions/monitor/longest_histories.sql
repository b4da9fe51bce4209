create or replace function tidemark.longest_histories(
    p_dimension_name text,
    p_keys integer
)
returns table (
    business_key text,
    versions bigint,
    first_seen timestamptz,
    last_changed timestamptz,
    is_current boolean
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The keys of a dimension with the most versions, first seen when, last changed when, and whether they still exist.
-- Reads the whole history.
#variable_conflict use_column
begin
    return query
    select v.business_key, count(*), min(v.valid_from), max(v.valid_from), bool_or(v.is_current)
    from tidemark.versions as v
    where v.dimension_name = p_dimension_name
    group by v.business_key
    order by count(*) desc, v.business_key
    limit p_keys;
end;
$$;
