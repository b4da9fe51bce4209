create or replace function tidemark.export_notes(
    p_dimension_name text default null
)
returns setof tidemark.exports
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Where the histories are exported to, or one of them: machine and folder, the moment of the snapshot that is there, and since when it may
-- hold a key that is forgotten.
select e.*
from tidemark.exports as e
where e.dimension_name = coalesce(p_dimension_name, e.dimension_name)
order by e.dimension_name, e.host, e.folder;
$$;
