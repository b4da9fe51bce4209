create or replace function tidemark.suggested_batch_size(
    p_dimension_name text,
    p_least integer,
    p_most integer,
    p_target_seconds double precision
)
returns integer
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The greatest batch that is loaded well, by the newest batches of the ledger: p_most while each was applied within p_target_seconds;
-- the size of one that took longer; half the size of one that took six times as long. So the rule of the original (double while quick,
-- halve when slow), seen from the warehouse; extraction does not go beyond it. A batch smaller than p_least says nothing of sizes.
-- Looks at five batches through an index, however long the ledger is.
select greatest(p_least, least(p_most, min(
    case
        when n.change_count < p_least or n.seconds < p_target_seconds then p_most
        when n.seconds < 6 * p_target_seconds then n.change_count
        else n.change_count / 2
    end
)))
from (
    select b.change_count, extract(epoch from b.applied_at - b.apply_started_at)::double precision as seconds
    from tidemark.batches as b
    where b.dimension_name = p_dimension_name
    order by b.applied_at desc
    limit 5
) as n;
$$;
