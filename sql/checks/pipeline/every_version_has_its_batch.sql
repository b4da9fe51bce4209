-- A hit is a version whose batch is not in the ledger: nobody can say where it came from.
-- It was written by hand, or its row of the ledger was deleted.
with unknown as materialized (
    select v.dimension_name, v.batch_id from tidemark.versions as v
    except
    select b.dimension_name, b.batch_id from tidemark.batches as b
)
select v.dimension_name, v.business_key, v.surrogate_key, v.batch_id, v.change_line
from unknown as u
join tidemark.versions as v on v.dimension_name = u.dimension_name and v.batch_id = u.batch_id
order by v.dimension_name, v.business_key, v.surrogate_key;
