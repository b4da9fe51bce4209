create or replace function tidemark.try_relay()
returns boolean
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Makes this session the relay of the warehouse, which tells subscriptions of events, unless another one is: then it stands by, and asks
-- again. It is the relay until the session ends.
select pg_try_advisory_lock(hashtextextended('tidemark.relay', 0));
$$;

revoke execute on function tidemark.try_relay () from public;
