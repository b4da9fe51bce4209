-- In which files a table, its partitions and the tables that inherit from it are now, as a text: another one after a rewrite, TRUNCATE or
-- REFRESH of any of them. One row. $1 its oid. The catalog is asked as it is now, whatever the snapshot of the transaction.
with recursive family (oid) as (
    select $1::text::oid
    union
    select i.inhrelid from family as f join pg_catalog.pg_inherits as i on i.inhparent = f.oid
)
select string_agg(format('%s %s', f.oid, pg_relation_filenode(f.oid)), ', ' order by f.oid) as files
from family as f;
