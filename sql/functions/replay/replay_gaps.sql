create or replace function tidemark.replay_gaps(
    p_dimension_name text,
    p_after_extracted_at timestamptz,
    p_after_batch_id text,
    p_limit integer
)
returns table (
    batch_id text,
    extracted_at timestamptz
)
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Batches of the ledger that a replay has not seen yet, oldest first, those of a chain in its order: p_limit of them, after a place in
-- that order.
select b.batch_id, b.extracted_at
from tidemark.batches as b
where b.dimension_name = p_dimension_name
    and (
        p_after_batch_id is null
        or (b.extracted_at, coalesce(b.sequence, 9223372036854775807), b.batch_id) > (
            select p_after_extracted_at, coalesce(max(a.sequence), 9223372036854775807), p_after_batch_id
            from tidemark.batches as a
            where a.dimension_name = p_dimension_name and a.batch_id = p_after_batch_id
        )
    )
    and not exists (
        select
        from tidemark.batches as s
        where s.dimension_name = tidemark._replay_name(p_dimension_name) and s.shard = b.shard and s.batch_id = b.batch_id
    )
order by b.extracted_at, coalesce(b.sequence, 9223372036854775807), b.batch_id
limit p_limit;
$$;
