-- A hit is a key with two versions in force: readers of the current state see the row twice.
-- The unique index on the current version forbids it; look for an index that was dropped or is invalid.
select v.dimension_name, v.business_key, count(*) as current_versions
from tidemark.versions as v
where v.is_current
group by v.dimension_name, v.business_key
having count(*) > 1
order by v.dimension_name, v.business_key;
