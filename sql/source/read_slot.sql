-- A replication slot ($1), and what the server keeps for it, in bytes: the log since restart_lsn, the log that its reader has not
-- confirmed, and how much more may be written before the slot is lost (null: no limit). wal_status: reserved, extended, unreserved or
-- lost. held_by: who reads from it now, as far as this role may know. encoding: what a reader is to ask for; a database in SQL_ASCII
-- takes any bytes, and turns them into no other encoding. No row where there is no such slot.
select s.slot_name as slot, s.plugin, s.database, s.active_pid,
    'process ' || s.active_pid || coalesce(
        (
            select format(' (%s)', concat_ws(', ', nullif(a.application_name, ''), 'of ' || a.usename, 'from ' || host(a.client_addr)))
            from pg_catalog.pg_stat_activity as a
            where a.pid = s.active_pid
        ),
        ''
    ) as held_by, s.confirmed_flush_lsn::text as confirmed, s.wal_status,
    (pg_current_wal_lsn() - s.restart_lsn)::text as retained_bytes,
    (pg_current_wal_lsn() - s.confirmed_flush_lsn)::text as unconfirmed_bytes,
    s.safe_wal_size::text as safe_bytes, s.two_phase as has_two_phases,
    case current_setting('server_encoding') when 'SQL_ASCII' then 'SQL_ASCII' else 'UTF8' end as encoding
from pg_catalog.pg_replication_slots as s
where s.slot_name = $1::text;
