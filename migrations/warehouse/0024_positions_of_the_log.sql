-- Up Migration
-- How far histories follow the log: what is loaded of each replication slot, what it keeps at the source, and since when a history has
-- the times of commits.

create table tidemark.stream_positions (
    slot text not null,
    position pg_lsn,
    last_commit_time timestamptz,
    complete_at timestamptz,
    tables text [],
    noted_at timestamptz,
    wal_status text,
    confirmed_position pg_lsn,
    unconfirmed_bytes bigint,
    retained_bytes bigint,
    safe_bytes bigint,
    gap_from timestamptz,
    gap_to timestamptz,
    reported_at timestamptz,
    constraint stream_positions_pkey primary key (slot),
    constraint a_gap_has_a_beginning check (gap_to is null or gap_from is not null)
);

comment on table tidemark.stream_positions is
    'How far each replication slot is loaded (tidemark.note_stream_position), and how it stands at the source (tidemark.note_slot).';
comment on column tidemark.stream_positions.slot is 'Name of the slot.';
comment on column tidemark.stream_positions.position is 'Position in the log up to which all tables in "tables" are loaded.';
comment on column tidemark.stream_positions.last_commit_time is 'Time of the last commit up to there, as the changes of its transaction have it.';
comment on column tidemark.stream_positions.complete_at is 'When, by the clock of the source, there was nothing more to read; null where nobody said.';
comment on column tidemark.stream_positions.tables is 'The dimensions that are loaded up to there; one that was taken out of the stream is none of them.';
comment on column tidemark.stream_positions.noted_at is 'When that was noted.';
comment on column tidemark.stream_positions.wal_status is 'As pg_replication_slots has it: reserved, extended, unreserved or lost; also lost where the slot is gone.';
comment on column tidemark.stream_positions.confirmed_position is 'What the slot has confirmed: it is asked for nothing before it.';
comment on column tidemark.stream_positions.unconfirmed_bytes is 'Bytes of log at the source that are not confirmed.';
comment on column tidemark.stream_positions.retained_bytes is 'Bytes of log that the source keeps for the slot.';
comment on column tidemark.stream_positions.safe_bytes is 'Bytes that may be written before the slot is lost; null where nothing limits what is kept.';
comment on column tidemark.stream_positions.gap_from is 'Where the slot was lost and replaced: the states of rows from here on are not in history; null where it never was.';
comment on column tidemark.stream_positions.gap_to is 'Up to here; null where it is lost still.';
comment on column tidemark.stream_positions.reported_at is 'When the slot was looked at.';

alter table tidemark.dimensions add column commit_times_from timestamptz;
comment on column tidemark.dimensions.commit_times_from is
    'Of a table that is captured from the log: later changes have the times of their commits. The hand-off, or the last repair.';

insert into tidemark.alert_rules (rule_name, indicator, threshold, unit, severity, meaning)
values
(
    'Slot Falls Behind', 'slot_retained_share', 0.5, 'share', 'warning',
    'The source keeps much of its log for a replication slot, measured by what it may keep (max_slot_wal_keep_size; 10 GiB where nothing'
    ' limits it): see with "tidemark stream status" whether it is read and loaded. A slot that nobody needs is dropped by'
    ' "tidemark stream drop".'
),
(
    'Slot Lost', 'lost_slots', 0, 'slots', 'critical',
    'A replication slot was lost, and with it the states of rows between two moments; final states and deletes come by the hand-off, which'
    ' "tidemark stream" makes anew. Raise max_slot_wal_keep_size, or see why it was not read.'
);
