create or replace function tidemark._let_propagate(
    p_is_on boolean
)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Says whether Citus repeats on its nodes what is created from here on; returns what it did before, to be said again afterwards. Null,
-- and nothing is said, where Citus is not there. No clause of a function can say so: it would take a superuser to create it without Citus.
declare
    v_former boolean := nullif(current_setting('citus.enable_ddl_propagation', true), '')::boolean;
begin
    if v_former <> p_is_on then
        perform set_config('citus.enable_ddl_propagation', p_is_on::text, true);
    end if;
    return v_former;
end;
$$;
