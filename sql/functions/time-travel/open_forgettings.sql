create or replace function tidemark.open_forgettings(
    p_dimension_name text,
    p_noted json default '[]'
)
returns table (
    reference text,
    is_known boolean
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Tickets of which keys of a table are still to be forgotten: those of forgettings that were cut off, or are under way; and those that only
-- the notes beside its change log know (p_noted, of tidemark.forgetting_notes), as the warehouse is from a backup. The latter are no more
-- among them when a key was forgotten by name, later, for the same ticket: what another warehouse noted cannot be found by its hash.
select f.reference, true
from tidemark.forgettings as f
where f.dimension_name = p_dimension_name and f.finished_at is null
union
select n.reference, false
from json_to_recordset(p_noted) as n (reference text, begun_at timestamptz, key_hash text)
where not exists (
    select
    from tidemark.forgettings as f
    where f.dimension_name = p_dimension_name
        and ((f.key_hash, f.begun_at) = (n.key_hash, n.begun_at) or f.reference = n.reference and f.begun_at > n.begun_at)
)
order by 1, 2;
$$;
