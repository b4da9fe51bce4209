-- A hit is a version with the same tracked columns as the one before it in the same life: it tells nothing new.
-- Such a change should have been absorbed; compare the two batches. Shells of a forgotten key tell nothing, each by itself.
with repeated as (
    select o.dimension_name, o.business_key, o.previous_surrogate_key, o.surrogate_key, o.valid_from
    from tidemark.neighbours as o
    where o.cdc_operation <> 'INSERT' and o.equals_previous
)
select o.dimension_name, o.business_key, o.previous_surrogate_key, o.surrogate_key, o.valid_from
from repeated as o
where not exists (
    select from tidemark.shell_keys as s where s.dimension_name = o.dimension_name and s.business_key = o.business_key
)
order by o.dimension_name, o.business_key, o.valid_from;
