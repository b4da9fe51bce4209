create or replace function tidemark.slot_kpis(
    p_now timestamptz
)
returns table (
    slot text,
    wal_status text,
    unconfirmed_bytes bigint,
    retained_bytes bigint,
    safe_bytes bigint,
    slot_retained_share double precision,
    seconds_behind double precision,
    gap_from timestamptz,
    gap_to timestamptz,
    reported_at timestamptz
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- How each replication slot stands, as it was last reported (tidemark.note_slot). slot_retained_share is what the source keeps for it, as a
-- share of what it may keep before the slot is lost, or of 10 GiB where nothing limits that. seconds_behind is the age of the moment up to
-- which its tables are loaded.
select
    s.slot, s.wal_status, s.unconfirmed_bytes, s.retained_bytes, s.safe_bytes,
    s.retained_bytes::double precision / greatest(coalesce(s.retained_bytes + s.safe_bytes, 10737418240), 1),
    greatest(extract(epoch from p_now - greatest(s.last_commit_time, s.complete_at)), 0)::double precision,
    s.gap_from, s.gap_to, s.reported_at
from tidemark.stream_positions as s
order by s.slot;
$$;
