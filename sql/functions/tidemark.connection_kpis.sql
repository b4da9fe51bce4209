-- How many sessions the warehouse server has of those it allows, and how many of them are Tidemark's.
-- A role that may not see other sessions' names counts those of its own as Tidemark's.
create or replace function tidemark.connection_kpis()
returns table (
    connections bigint,
    tidemark_connections bigint,
    connections_allowed integer,
    connection_pool_utilization double precision
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
select
    count(*), count(*) filter (where a.application_name like 'tidemark %'), s.allowed,
    count(*)::double precision / s.allowed
from pg_stat_activity as a
cross join (select current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer as allowed) as s
where a.backend_type = 'client backend'
group by s.allowed;
$$;
