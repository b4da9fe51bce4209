create or replace function tidemark.change_frequency(
    p_dimension_name text
)
returns table (
    versions bigint,
    keys bigint
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- How often the rows of a dimension change: how many keys have one version, two, three, ... Reads the whole history.
#variable_conflict use_column
begin
    return query
    select k.versions, count(*)
    from (
        select count(*) as versions
        from tidemark.versions as v
        where v.dimension_name = p_dimension_name
        group by v.business_key
    ) as k
    group by k.versions
    order by k.versions;
end;
$$;
