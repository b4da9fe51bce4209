-- What a server allows readers of its log; $1 a replication slot.
-- has_free_slot: also where the slot is there. is_limited: whether it gives up a slot that would keep too much.
select current_setting('wal_level') as wal_level,
    current_setting('max_replication_slots')::integer as most_slots,
    count(*) filter (where s.slot_name <> $1::text) < current_setting('max_replication_slots')::integer as has_free_slot,
    (select g.setting <> '-1' from pg_catalog.pg_settings as g where g.name = 'max_slot_wal_keep_size') as is_limited
from pg_catalog.pg_replication_slots as s;
