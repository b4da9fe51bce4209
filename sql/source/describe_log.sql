-- What a server allows readers of its log, and whether a publication ($2) sends all that happens to its tables; $1 a replication slot.
-- has_free_slot: also where the slot is there. is_limited: whether it gives up a slot that would keep too much. narrowed: tables of which
-- the publication sends some rows or columns only; is_whole: no kind of change is left out. Both null where there is no publication.
select current_setting('wal_level') as wal_level,
    current_setting('max_replication_slots')::integer as most_slots,
    count(*) filter (where s.slot_name <> $1::text) < current_setting('max_replication_slots')::integer as has_free_slot,
    (select g.setting <> '-1' from pg_catalog.pg_settings as g where g.name = 'max_slot_wal_keep_size') as is_limited,
    (
        select p.pubinsert and p.pubupdate and p.pubdelete and p.pubtruncate
        from pg_catalog.pg_publication as p where p.pubname = $2::text
    ) as is_whole,
    (
        select string_agg(r.prrelid::pg_catalog.regclass::text, ', ' order by r.prrelid::pg_catalog.regclass::text)
        from pg_catalog.pg_publication as p
        join pg_catalog.pg_publication_rel as r on r.prpubid = p.oid
        where p.pubname = $2::text and (r.prqual is not null or r.prattrs is not null)
    ) as narrowed
from pg_catalog.pg_replication_slots as s;
