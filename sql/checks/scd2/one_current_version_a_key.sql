-- A hit is a key with two versions in force: readers of the current state see the row twice.
-- The unique index on the current version forbids it; look for an index that was dropped or is invalid.
select k.dimension_name, k.business_key, k.current_versions
from tidemark.keys_in_force as k
where k.current_versions > 1
order by k.dimension_name, k.business_key;
