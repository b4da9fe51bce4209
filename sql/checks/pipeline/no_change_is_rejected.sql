-- A hit is a change that could not be applied and waits in rejected_changes: history lacks it.
-- Remove the cause that the reason names, then apply it again; one that history need not have is dismissed, and no hit any more. Nor is
-- one that a later change of its key has settled.
select r.dimension_name, r.shard, r.batch_id, r.change_line, r.column_name, r.reason
from tidemark.rejected_changes as r
where r.dismissed_at is null and r.settled_at is null
order by r.dimension_name, r.shard, r.batch_id, r.change_line;
