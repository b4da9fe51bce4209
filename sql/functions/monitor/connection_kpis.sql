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
-- How many sessions the warehouse server has of those it allows, and how many of them are Tidemark's.
-- Whoever may not see what kind of session another role's is (loader and analyst may not) counts those that have a database and a user:
-- sessions of clients, and now and then a parallel worker of one.
select
    count(*), count(*) filter (where a.application_name like 'tidemark %'), s.allowed,
    count(*)::double precision / s.allowed
from pg_stat_activity as a
cross join (
    select current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
        - coalesce(current_setting('reserved_connections', true)::integer, 0) as allowed
) as s
where a.backend_type = 'client backend' or (a.backend_type is null and a.datid is not null and a.usesysid is not null)
group by s.allowed;
$$;
