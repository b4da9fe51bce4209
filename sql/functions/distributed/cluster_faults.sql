create or replace function tidemark.cluster_faults()
returns table (
    subject text,
    fault text,
    remedy text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- What is wrong with the cluster of Citus that distributed histories live on; no row where nothing is, or none is distributed. Looks at
-- the release of Citus and of PostgreSQL on each node, whether each can prepare transactions and reaches the others, whether every shard is
-- on a node that is in use, whether workers have the functions of this release, and at transactions that were prepared and not ended within
-- five minutes. Asks every node, and changes nothing.
#variable_conflict use_column
begin
    if not exists (select from tidemark.dimensions as d where d.distributed_by is not null) then
        return;
    end if;
    return query execute $query$
        with asked as materialized (
            select n.nodename || ':' || n.nodeport as node, r.success, r.result
            from run_command_on_all_nodes($command$
                select json_build_object(
                    'citus', (select e.extversion from pg_extension as e where e.extname = 'citus'),
                    'postgres', current_setting('server_version_num')::integer / 10000,
                    'prepared', current_setting('max_prepared_transactions')::integer,
                    'old', (
                        select count(*)
                        from pg_prepared_xacts as x
                        where x.database = current_database() and x.gid like 'citus%' and x.prepared < now() - interval '5 minutes'
                    ),
                    'functions', (
                        select json_object_agg(p.oid::regprocedure, md5(p.prosrc))
                        from pg_proc as p
                        where p.pronamespace = to_regnamespace('tidemark') and p.proname in (
                            '_serve_node', '_install_on_node', '_keep_on_node', '_taken_from_node', 'fold', '_fold_step',
                            'fold_time', '_fold_time_step', '_takes_effect', '_lacking', 'last_known', '_last_known_step'
                        )
                    )
                )
            $command$) as r
            join pg_dist_node as n on n.nodeid = r.nodeid
        ),
        told as (
            select a.node, a.result::json as facts from asked as a where a.success
        ),
        home as (
            select t.facts
            from told as t
            join pg_dist_node as n on n.groupid = 0 and t.node = n.nodename || ':' || n.nodeport
        )
        select 'node ' || a.node, 'it does not answer: ' || a.result, 'start it, or take it out: citus_remove_node'
        from asked as a
        where not a.success
        union all
        select 'node ' || t.node, format('its %s is %s, that of the coordinator %s', v.name, t.facts ->> v.member, h.facts ->> v.member),
            'bring all nodes to one release before anything is loaded'
        from told as t
        cross join home as h
        cross join (values ('Citus', 'citus'), ('PostgreSQL', 'postgres')) as v (name, member)
        where t.facts ->> v.member is distinct from h.facts ->> v.member
        union all
        select 'node ' || t.node, 'it cannot prepare transactions, by which a batch is one on all nodes',
            'set max_prepared_transactions to its max_connections, and start it again'
        from told as t
        where (t.facts ->> 'prepared')::integer = 0
        union all
        select 'node ' || t.node, format('%s transactions were prepared more than five minutes ago and have not ended', t.facts ->> 'old'),
            'select recover_prepared_transactions() on the coordinator'
        from told as t
        where (t.facts ->> 'old')::integer > 0
        union all
        select 'node ' || t.node, format('it lacks functions of this release, or has others: %s', string_agg(f.key, ', ' order by f.key)),
            'npx tidemark migrate'
        from told as t
        cross join home as h
        cross join lateral json_each_text(h.facts -> 'functions') as f
        where t.facts -> 'functions' ->> f.key is distinct from f.value
        group by t.node
        union all
        select 'cluster', format('%s:%s does not reach %s:%s', c.from_nodename, c.from_nodeport, c.to_nodename, c.to_nodeport),
            'let every node connect to every other one'
        from citus_check_cluster_node_health() as c
        where c.result is not true
        union all
        select 'table ' || d.dimension_name, format('%s of its shards are on no node that is in use', count(*)),
            'look at pg_dist_placement and pg_dist_node'
        from tidemark.dimensions as d
        join pg_dist_shard as s on s.logicalrelid = d.history_relation
        where d.distributed_by is not null and not exists (
            select
            from pg_dist_placement as l
            join pg_dist_node as n on n.groupid = l.groupid and n.isactive and n.noderole = 'primary'
            where l.shardid = s.shardid and l.shardstate = 1
        )
        group by d.dimension_name
        union all
        select 'table ' || d.dimension_name, f.fault, 'docs/errors.md: TM007'
        from tidemark.dimensions as d
        cross join lateral tidemark._distribution_faults(d.dimension_name) as f (fault)
        where d.distributed_by is not null and f.fault is not null
    $query$;
end;
$$;
