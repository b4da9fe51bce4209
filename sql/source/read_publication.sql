-- The tables of a publication ($1), each with what makes it one of them: the number of its own entry, or that of its schema, or that of
-- the publication, and the transaction that wrote the publication last. A table that was taken out and put back has another one, and so has
-- each one where the publication was altered: nobody can say what was left out meanwhile. is_whole: no kind of change is left out;
-- is_narrow: some rows or columns of it alone are sent. One row without a table where it has none; no row where there is no publication.
select t.schemaname || '.' || t.tablename as name, c.oid::text as oid,
    coalesce(r.oid, s.oid, p.oid)::text || '/' || p.xmin::text as entry,
    p.pubviaroot as is_via_root, p.pubinsert and p.pubupdate and p.pubdelete and p.pubtruncate as is_whole,
    r.prqual is not null or r.prattrs is not null as is_narrow
from pg_catalog.pg_publication as p
left join pg_catalog.pg_publication_tables as t on t.pubname = p.pubname
left join pg_catalog.pg_namespace as n on n.nspname = t.schemaname
left join pg_catalog.pg_class as c on c.relnamespace = n.oid and c.relname = t.tablename
left join pg_catalog.pg_publication_rel as r on r.prpubid = p.oid and r.prrelid = c.oid
left join pg_catalog.pg_publication_namespace as s on s.pnpubid = p.oid and s.pnnspid = n.oid
where p.pubname = $1::text;
