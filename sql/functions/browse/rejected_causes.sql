create or replace function tidemark.rejected_causes(
    p_dimension_name text,
    p_limit integer
)
returns table (
    dimension_name text,
    column_name text,
    cause text,
    changes bigint,
    since timestamptz,
    batch_id text,
    change_line integer,
    business_key text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The rejected changes that wait, of a dimension (null: of all), by what keeps them out: most first, and the oldest change of each. Quoted
-- values are left out of the cause, so that what differs in nothing else is one.
#variable_conflict use_column
begin
    return query
    select r.dimension_name, r.column_name, r.cause, count(*), min(r.rejected_at),
        (array_agg(r.batch_id order by r.rejected_at, r.change_line))[1],
        (array_agg(r.change_line order by r.rejected_at, r.change_line))[1],
        (array_agg(r.business_key order by r.rejected_at, r.change_line))[1]
    from (
        select w.dimension_name, w.column_name, w.batch_id, w.change_line, w.business_key, w.rejected_at,
            tidemark._cause(n.reason) as cause
        from tidemark.rejected_changes as w
        join tidemark.rejected_reasons as n
            on n.dimension_name = w.dimension_name and n.shard = w.shard and n.batch_id = w.batch_id and n.change_line = w.change_line
        where w.dismissed_at is null and w.settled_at is null and (p_dimension_name is null or w.dimension_name = p_dimension_name)
    ) as r
    group by r.dimension_name, r.column_name, r.cause
    order by count(*) desc, min(r.rejected_at), r.dimension_name
    limit p_limit;
end;
$$;
