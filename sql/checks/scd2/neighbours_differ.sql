-- A hit is a version with the same tracked columns as the one before it in the same life: it tells nothing new.
-- Such a change should have been absorbed; compare the two batches.
select o.dimension_name, o.business_key, o.previous_surrogate_key, o.surrogate_key, o.valid_from, o.tracked_values
from (
    select v.*,
        lag(v.surrogate_key) over by_key as previous_surrogate_key,
        lag(v.tracked_values) over by_key as previous_tracked_values
    from tidemark.versions as v
    window by_key as (partition by v.business_key, v.dimension_name order by v.valid_from, v.surrogate_key)
) as o
where o.cdc_operation <> 'INSERT' and o.tracked_values = o.previous_tracked_values
order by o.dimension_name, o.business_key, o.valid_from;
