create or replace function tidemark.dimension_list()
returns table (
    dimension_name text,
    source_table text,
    history_table text,
    state text,
    columns bigint,
    batches bigint,
    last_extracted_at timestamptz,
    last_applied_at timestamptz
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Every dimension and where it stands, for people: one row a dimension.
select
    d.dimension_name, format('%I.%I', d.source_schema, d.source_table), d.history_relation::text,
    case when d.paused_at is null then 'active' else 'paused' end,
    (
        select count(distinct c.source_column)
        from tidemark.dimension_columns as c
        where c.dimension_name = d.dimension_name and c.retired_at is null
    ),
    b.batches, b.last_extracted_at, b.last_applied_at
from tidemark.dimensions as d
cross join lateral (
    select count(*) as batches, max(greatest(b.extracted_at, b.greatest_captured_at)) as last_extracted_at,
        max(b.applied_at) as last_applied_at
    from tidemark.batches as b
    where b.dimension_name = d.dimension_name
) as b
order by d.dimension_name;
$$;
