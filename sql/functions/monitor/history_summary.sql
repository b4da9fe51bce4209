create or replace function tidemark.history_summary(
    p_dimension_name text
)
returns table (
    history_table text,
    total bigint,
    current bigint,
    historical bigint
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- How many versions a history holds: all, current and historical. Reads the whole history.
begin
    return query
    select
        d.history_relation::text, count(v.surrogate_key),
        count(*) filter (where v.is_current), count(*) filter (where not v.is_current)
    from tidemark.dimensions as d
    left join tidemark.versions as v on v.dimension_name = d.dimension_name
    where d.dimension_name = p_dimension_name
    group by d.history_relation;
end;
$$;
