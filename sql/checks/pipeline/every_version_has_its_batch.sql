-- A hit is a version whose batch is not in the ledger: nobody can say where it came from.
-- It was written by hand, or its row of the ledger was deleted.
select v.dimension_name, v.business_key, v.surrogate_key, v.batch_id, v.change_line
from tidemark.odd_versions as v
where not v.has_batch
order by v.dimension_name, v.business_key, v.surrogate_key;
