-- A hit is a version that is still valid when the next one of its key begins: an as-of query returns both.
-- Compare the two versions with the batches they came from.
select o.dimension_name, o.business_key, o.surrogate_key, o.valid_from, o.valid_to, o.next_surrogate_key, o.next_valid_from
from tidemark.neighbours as o
where o.next_valid_from < coalesce(o.valid_to, 'infinity')
order by o.dimension_name, o.business_key, o.valid_from;
