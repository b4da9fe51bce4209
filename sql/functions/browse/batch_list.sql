create or replace function tidemark.batch_list(
    p_dimension_name text,
    p_before timestamptz,
    p_before_batch_id text,
    p_limit integer
)
returns table (
    dimension_name text,
    batch_id text,
    shard text,
    sequence bigint,
    extracted_at timestamptz,
    applied_at timestamptz,
    seconds double precision,
    change_count integer,
    inserted_versions integer,
    closed_versions integer,
    absorbed_changes integer,
    late_changes integer,
    corrected_versions integer,
    rejected_changes integer,
    follows boolean,
    retracted_at timestamptz
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Batches of the ledger, those applied last first: p_limit of a dimension (null: of all), after the place p_before, p_before_batch_id
-- (null: from the last). follows says whether the batch before it in its chain is the one that it names; null where it is of no chain.
select b.dimension_name, b.batch_id, b.shard, b.sequence, b.extracted_at, b.applied_at,
    extract(epoch from b.applied_at - b.apply_started_at)::double precision, b.change_count, b.inserted_versions, b.closed_versions,
    b.absorbed_changes, b.late_changes, b.corrected_versions, b.rejected_changes,
    case when b.sequence is not null then b.previous_checksum is not distinct from p.checksum end, b.retracted_at
from tidemark.dimensions as d
cross join lateral (
    select n.*
    from tidemark.batches as n
    where n.dimension_name = d.dimension_name
        and (p_before is null or (n.applied_at, n.batch_id) < (p_before, p_before_batch_id))
    order by n.applied_at desc, n.batch_id desc
    limit p_limit
) as b
left join lateral (
    select n.checksum
    from tidemark.batches as n
    where n.dimension_name = b.dimension_name and n.shard = b.shard and n.sequence < b.sequence
    order by n.sequence desc
    limit 1
) as p on true
where p_dimension_name is null or d.dimension_name = p_dimension_name
order by b.applied_at desc, b.batch_id desc
limit p_limit;
$$;
