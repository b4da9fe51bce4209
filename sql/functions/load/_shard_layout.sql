create or replace function tidemark._shard_layout(
    p_shard text
)
returns text
language sql
immutable
strict
parallel safe
set search_path = pg_catalog, pg_temp
as $$
-- The layout that a shard belongs to: its name without its number, as in of-4. Shards of one layout have no key in common, those of
-- different layouts may. The whole table is a layout of its own.
select regexp_replace(p_shard, '^[0-9]+-', '');
$$;
