create or replace function tidemark._replay_retractions(
    p_dimension_name text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Takes those batches out of the scratch history of a replay (tidemark.open_replay) that are retracted, once all have been replayed.
-- Safe to repeat. The caller holds the dimension.
begin
    perform tidemark._retract_changes(jsonb_populate_record(s, jsonb_build_object('retracted_at', b.retracted_at)))
    from tidemark.batches as b
    join tidemark.batches as s
        on s.dimension_name = tidemark._replay_name(p_dimension_name) and s.shard = b.shard and s.batch_id = b.batch_id
    where b.dimension_name = p_dimension_name and b.retracted_at is not null and s.retracted_at is null;
end;
$$;
