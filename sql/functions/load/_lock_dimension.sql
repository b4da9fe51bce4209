create or replace function tidemark._lock_dimension(
    p_dimension_name text,
    p_shard text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Makes loaders of one history queue, until the transaction ends. A batch of the whole table takes the dimension for
-- itself; a batch of a shard shares it with other shards and takes its shard. The ledger's key is the real guarantee:
-- the lock turns collisions into waiting.
declare
    v_dimension bigint := hashtextextended('tidemark.dimension ' || p_dimension_name, 0);
begin
    if p_shard = '' then
        perform pg_advisory_xact_lock(v_dimension);
    else
        perform pg_advisory_xact_lock_shared(v_dimension);
        perform pg_advisory_xact_lock(hashtextextended('tidemark.shard ' || p_shard, v_dimension));
    end if;
end;
$$;
