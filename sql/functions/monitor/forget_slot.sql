create or replace function tidemark.forget_slot(
    p_slot text
)
returns void
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Forgets a replication slot that was dropped on purpose, so that no alert asks for it. Safe to repeat.
-- Runs with the rights of its owner, so that who may execute it needs none on the table.
delete from tidemark.stream_positions as s where s.slot = p_slot;
$$;

revoke execute on function tidemark.forget_slot (text) from public;
