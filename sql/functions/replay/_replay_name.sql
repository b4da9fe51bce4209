create or replace function tidemark._replay_name(
    p_dimension_name text
)
returns text
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- The name of this session's scratch dimension for a replay, and of its temporary history table.
select format('replay_%s_%s', pg_backend_pid(), left(md5(p_dimension_name), 8));
$$;
