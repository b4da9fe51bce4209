-- A hit is a version that ended before, or as, it began: no moment in time can see it.
-- A check constraint of the history table forbids it; see whether it was dropped.
select v.dimension_name, v.business_key, v.surrogate_key, v.valid_from, v.valid_to
from tidemark.odd_versions as v
where v.valid_to <= v.valid_from
order by v.dimension_name, v.business_key, v.valid_from;
