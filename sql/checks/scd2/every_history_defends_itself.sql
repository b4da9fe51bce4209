-- A hit is a history table that has lost what defends it, an index or a check of its migration: load would then write over rows
-- that were altered by hand without a word. Make it again as the migration has it; "tidemark rebuild" mends the rows first.
select d.dimension_name, d.history_relation, f.fault
from tidemark.dimensions as d
cross join lateral tidemark.dimension_faults(d.dimension_name) as f
order by d.dimension_name, f.place, f.fault;
