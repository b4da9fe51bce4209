create or replace function tidemark._give_nodes_to(
    p_owner text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Has p_owner own what workers made for themselves (tidemark._install_on_node): of that the coordinator, which gives away what it has,
-- and Citus with it, knows nothing. Without it a new owner could not replace the functions of a shard, nor fill the tables that they name.
-- Nor does Citus hand on what is granted on a database, which a migration of the new owner needs.
-- Run by a superuser, as is what else "tidemark grants" says.
-- Errors: object_not_in_prerequisite_state a worker did not do it; the message names it.
declare
    v_failed text;
begin
    execute $query$
        select string_agg(format('%s:%s: %s', n.nodename, n.nodeport, r.result), '; ')
        from run_command_on_workers(format($command$
            do $do$
            declare
                v_statement text;
            begin
                set local citus.enable_ddl_propagation to off;
                execute format('grant connect, create on database %%I to %%I', current_database(), %1$L);
                for v_statement in
                    select format(
                        'alter %%s %%s owner to %%I', case c.relkind when 'S' then 'sequence' else 'table' end, c.oid::regclass, %1$L
                    )
                    from pg_class as c
                    where c.relnamespace = 'tidemark'::regnamespace and c.relkind in ('r', 'S') and c.relowner <> %1$L::regrole
                    union all
                    select format('alter function %%s owner to %%I', p.oid::regprocedure, %1$L)
                    from pg_proc as p
                    where p.pronamespace = 'tidemark'::regnamespace and p.prokind = 'f' and p.proowner <> %1$L::regrole
                loop
                    execute v_statement;
                end loop;
            end
            $do$
        $command$, $1)) as r
        join pg_dist_node as n on n.nodename = r.nodename and n.nodeport = r.nodeport
        where not r.success
    $query$
    into v_failed using p_owner;
    if v_failed is not null then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('workers did not give what is theirs to %s: %s', p_owner, v_failed),
            hint = 'commit what makes the roles first; then look at the worker, and grant again';
    end if;
end;
$$;

revoke execute on function tidemark._give_nodes_to (text) from public;
