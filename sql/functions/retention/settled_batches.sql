create or replace function tidemark.settled_batches(
    p_dimension_name text,
    p_shard text
)
returns table (
    batch_id text,
    sequence bigint,
    extracted_at timestamptz
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Batches of one chain whose files nothing will ask for any more, so that retention may remove them: the ledger has them, and no rejected
-- change of them, or of a batch before them in the chain, waits: one that was dismissed or settled does not, and should it be tried again,
-- it is applied from the ledger, which has it whole. Documents from outside the chain are none of them.
-- Reads the ledger of the chain.
select b.batch_id, b.sequence, b.extracted_at
from tidemark.batches as b
where b.dimension_name = p_dimension_name and b.shard = p_shard
    and b.sequence < coalesce(
        (
            select min(w.sequence)
            from tidemark.rejected_changes as r
            join tidemark.batches as w on w.dimension_name = r.dimension_name and w.shard = r.shard and w.batch_id = r.batch_id
            where r.dimension_name = p_dimension_name and r.shard = p_shard and r.dismissed_at is null and r.settled_at is null
        ),
        9223372036854775807
    );
$$;
