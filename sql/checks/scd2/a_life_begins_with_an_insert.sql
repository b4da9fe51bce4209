-- A hit is a first version of a key, or the first after a gap, that is not marked INSERT, or a later one that is.
-- A key that was deleted and came back at the same moment begins a new life without a gap.
with suspect as (
    select o.dimension_name, o.business_key, o.surrogate_key, o.valid_from, o.cdc_operation, o.previous_valid_to
    from tidemark.neighbours as o
)
select o.dimension_name, o.business_key, o.surrogate_key, o.valid_from, o.cdc_operation, o.previous_valid_to
from suspect as o
where (o.cdc_operation = 'INSERT') is distinct from (
    o.previous_valid_to is null
    or o.previous_valid_to < o.valid_from
    or exists (
        select
        from tidemark.absorbed_changes as a
        where a.dimension_name = o.dimension_name
            and a.business_key = o.business_key
            and a.reason = 'delete'
            and a.closed_at = o.valid_from
    )
)
order by o.dimension_name, o.business_key, o.valid_from;
