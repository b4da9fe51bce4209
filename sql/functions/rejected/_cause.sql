create or replace function tidemark._cause(
    p_reason text
)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
-- What keeps a change out, of the reason of its rejection: without the values that are quoted in it, so that what differs in nothing else
-- is one cause.
select regexp_replace(p_reason, '"[^"]*"', '"…"', 'g');
$$;
