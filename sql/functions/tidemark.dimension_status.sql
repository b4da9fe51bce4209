-- Where each dimension stands: its versions and its last batch. One row a dimension, also of one without history.
-- Reads every history once.
create or replace function tidemark.dimension_status()
returns table (
    dimension_name text,
    total bigint,
    current bigint,
    historical bigint,
    last_batch text,
    last_applied_at timestamptz
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    select d.dimension_name, coalesce(v.total, 0), coalesce(v.current, 0), coalesce(v.total - v.current, 0), b.batch_id, b.applied_at
    from tidemark.dimensions as d
    left join (
        select h.dimension_name, count(*) as total, count(*) filter (where h.is_current) as current
        from tidemark.versions as h
        group by h.dimension_name
    ) as v on v.dimension_name = d.dimension_name
    left join lateral (
        select n.batch_id, n.applied_at
        from tidemark.batches as n
        where n.dimension_name = d.dimension_name
        order by n.extracted_at desc, n.batch_id collate "C" desc
        limit 1
    ) as b on true
    order by d.dimension_name;
end;
$$;
