-- A hit is a key whose version ended without a successor at that moment, though no DELETE of it was applied.
-- Something ended the version by hand, or a version is missing.
with ended as (
    select o.dimension_name, o.business_key, o.surrogate_key, o.valid_from, o.valid_to, o.next_valid_from
    from tidemark.neighbours as o
    where o.valid_to is not null
        and (o.next_valid_from is null or o.next_valid_from > o.valid_to)
)
select o.dimension_name, o.business_key, o.surrogate_key, o.valid_from, o.valid_to, o.next_valid_from
from ended as o
where not exists (
    select
    from tidemark.absorbed_changes as a
    where a.dimension_name = o.dimension_name
        and a.business_key = o.business_key
        and a.reason = 'delete'
        and a.closed_at = o.valid_to
)
order by o.dimension_name, o.business_key, o.valid_from;
