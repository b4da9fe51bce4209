-- A hit is a version marked current that has an end, or one without an end that is not marked current.
-- A check constraint of the history table forbids it; see whether it was dropped.
select v.dimension_name, v.business_key, v.surrogate_key, v.is_current, v.valid_to
from tidemark.odd_versions as v
where v.is_current is distinct from (v.valid_to is null)
order by v.dimension_name, v.business_key, v.valid_from;
