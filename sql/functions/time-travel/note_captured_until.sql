create or replace function tidemark.note_captured_until(
    p_forgetting_ids bigint [],
    p_captured timestamptz []
)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Notes up to when changes of the table had been captured when its keys were forgotten: the latest of p_captured (the newest checkpoints of
-- its chains, and lines that went) and of the ledger. What comes later is a new life of the key. One that was noted before stays.
update tidemark.forgettings as f
set captured_until = greatest(
    (select max(c.captured_at) from unnest(p_captured) as c (captured_at)),
    (select max(b.greatest_captured_at) from tidemark.batches as b where b.dimension_name = f.dimension_name),
    f.begun_at - interval '100 years'
)
where f.forgetting_id = any (p_forgetting_ids) and f.captured_until is null;
$$;

revoke execute on function tidemark.note_captured_until (bigint [], timestamptz []) from public;
