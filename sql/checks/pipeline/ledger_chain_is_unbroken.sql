-- A hit is a batch whose predecessor in the ledger is not the batch it was written after: one is missing or was exchanged.
-- Look for the missing file in the change log and load it.
select c.dimension_name, c.shard, c.sequence, c.batch_id, c.previous_checksum, c.checksum_before
from (
    select b.*, lag(b.checksum) over by_chain as checksum_before
    from tidemark.batches as b
    where b.sequence is not null
    window by_chain as (partition by b.dimension_name, b.shard order by b.sequence)
) as c
where c.previous_checksum is distinct from c.checksum_before
order by c.dimension_name, c.shard, c.sequence;
