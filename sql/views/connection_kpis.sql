-- How many sessions the warehouse server has of those it allows.
create or replace view tidemark.connection_kpis as
select c.*
from tidemark.connection_kpis() as c;

comment on view tidemark.connection_kpis is 'How many sessions the warehouse server has of those it allows: one row.';
comment on column tidemark.connection_kpis.connections is 'Sessions of clients.';
comment on column tidemark.connection_kpis.tidemark_connections is 'Those of Tidemark.';
comment on column tidemark.connection_kpis.connections_allowed is 'As many as ordinary roles may have.';
comment on column tidemark.connection_kpis.connection_pool_utilization is 'connections as a share of those allowed.';
