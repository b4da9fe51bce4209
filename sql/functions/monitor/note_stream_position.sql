create or replace function tidemark.note_stream_position(
    p_slot text,
    p_position pg_lsn,
    p_last_commit_time timestamptz,
    p_tables text [],
    p_complete_at timestamptz default null
)
returns void
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Notes that all tables of a replication slot (p_tables, by dimension) are loaded up to a position in the log, and when the last
-- transaction up to there was committed, as its changes have it. p_complete_at is when, by the source's clock, there was nothing more
-- to read.
-- Whoever loads calls it, after each round. Safe to repeat; what is older than what was noted changes nothing.
-- Runs with the rights of its owner, so that who may execute it needs none on the table.
insert into tidemark.stream_positions as s (slot, position, last_commit_time, complete_at, tables, noted_at)
values (p_slot, p_position, p_last_commit_time, p_complete_at, p_tables, clock_timestamp())
on conflict (slot) do update
set position = excluded.position, last_commit_time = excluded.last_commit_time,
    complete_at = greatest(s.complete_at, excluded.complete_at), tables = excluded.tables, noted_at = excluded.noted_at
where s.last_commit_time is null or excluded.last_commit_time >= s.last_commit_time;
$$;

revoke execute on function tidemark.note_stream_position (text, pg_lsn, timestamptz, text [], timestamptz) from public;
