create or replace function tidemark.note_slot(
    p_slot text,
    p_wal_status text,
    p_confirmed_position pg_lsn,
    p_unconfirmed_bytes bigint,
    p_retained_bytes bigint,
    p_safe_bytes bigint,
    p_gap_from timestamptz default null,
    p_gap_to timestamptz default null
)
returns void
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Notes how a replication slot stands at the source, for indicators and alerts: what pg_replication_slots says of it (p_wal_status lost
-- where it is gone), bytes that are not confirmed, that are kept, and that may be written before it is lost (null: no limit).
-- p_gap_from and p_gap_to: between these moments states of rows were lost with the slot; p_gap_to is null until a hand-off has replaced
-- it. Where none is given, what was noted of a gap stays. Whoever reads the log calls it, now and then. Safe to repeat.
-- Runs with the rights of its owner, so that who may execute it needs none on the table.
insert into tidemark.stream_positions as s (
    slot, wal_status, confirmed_position, unconfirmed_bytes, retained_bytes, safe_bytes, gap_from, gap_to, reported_at
)
values (
    p_slot, p_wal_status, p_confirmed_position, p_unconfirmed_bytes, p_retained_bytes, p_safe_bytes, p_gap_from, p_gap_to,
    clock_timestamp()
)
on conflict (slot) do update
set wal_status = excluded.wal_status, confirmed_position = excluded.confirmed_position, unconfirmed_bytes = excluded.unconfirmed_bytes,
    retained_bytes = excluded.retained_bytes, safe_bytes = excluded.safe_bytes, reported_at = excluded.reported_at,
    gap_from = coalesce(excluded.gap_from, s.gap_from),
    gap_to = case when excluded.gap_from is null then s.gap_to else excluded.gap_to end;
$$;

revoke execute on function tidemark.note_slot (text, text, pg_lsn, bigint, bigint, bigint, timestamptz, timestamptz) from public;
