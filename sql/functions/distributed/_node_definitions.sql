create or replace function tidemark._node_definitions(
    p_dimension_name text,
    p_shard text,
    p_shard_id bigint
)
returns json
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- What a node needs to make the history of the keys of one shard that it holds (p_shard, as SQL names its table): {"tables": [[name,
-- statement], ...], "functions": [statement, ...]}. The tables are Tidemark's own that the functions name: empty there, and on a node
-- they hold, within a transaction, what the coordinator sent along and what it is to keep (tidemark._serve_node).
-- The functions are those of any dimension, which name the table of the shard: a plain one, so that what Citus cannot plan is planned.
-- The time of the transaction is the coordinator's (p_batch.applied_at): every node has a clock of its own.
with l as materialized (
    select tidemark._part_lists(
        p_dimension_name, p_shard, '_' || p_shard_id,
        format('nextval(%L)', pg_get_serial_sequence(d.history_relation::text, 'surrogate_key'))
    ) as lists
    from tidemark.dimensions as d
    where d.dimension_name = p_dimension_name
)
select json_build_object(
    'tables', (
        select json_agg(json_build_array(t.name, (
            select format('create unlogged table tidemark.%I (%s)', t.name, string_agg(
                format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' order by a.attnum
            ))
            from pg_attribute as a
            where a.attrelid = format('tidemark.%I', t.name)::regclass and a.attnum > 0 and not a.attisdropped
        ) || t.indexes) order by t.name)
        from (
            values
            ('batches', '; create index on tidemark.batches (dimension_name, batch_id)'),
            ('absorbed_changes', '; create index on tidemark.absorbed_changes (dimension_name, business_key)'),
            ('first_values', '; create unique index on tidemark.first_values (dimension_name, surrogate_key)'),
            ('former_keys', '; create unique index on tidemark.former_keys (dimension_name, business_key)'),
            ('shell_keys', ''),
            ('events', ''),
            ('event_groups', '; create sequence if not exists tidemark.event_groups_group_id_seq')
        ) as t (name, indexes)
    ),
    'functions', json_build_array(
        tidemark._compiled_definition(p_dimension_name, 'apply', b.apply, '_' || p_shard_id),
        tidemark._compiled_definition(p_dimension_name, 'converge', b.converge, '_' || p_shard_id),
        tidemark._compiled_definition(p_dimension_name, 'slice', tidemark._slice_body(l.lists), '_' || p_shard_id)
    )
)
from l
cross join lateral (
    select replace(tidemark._apply_body(l.lists), 'transaction_timestamp()', 'p_batch.applied_at') as apply,
        replace(tidemark._converge_body(l.lists), 'transaction_timestamp()', 'p_batch.applied_at') as converge
) as b;
$$;

create or replace function tidemark._node_body(
    p_dimension_name text
)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
-- The body of tidemark.on_node_<dimension>, which Citus calls on the node that holds a key.
select format(
    e'\n-- What the node that holds a key of %s does for the coordinator (tidemark._fold_distributed). Citus calls it there.\n'
    '-- Written by tidemark.compile_dimension: change the mapping or the history, and compile it again, never this.\n'
    'begin\n    return tidemark._serve_node(p_request, p_changes, p_kept);\nend;\n',
    translate(p_dimension_name, e'\n\r', '  ')
);
$$;

create or replace function tidemark._create_on_nodes(
    p_dimension_name text,
    p_body text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Creates tidemark.on_node_<dimension> on all nodes, and lets Citus call it on the one that holds the key it is given.
declare
    v_propagates boolean := tidemark._let_propagate(true);
begin
    perform set_config('citus.multi_shard_modify_mode', 'sequential', true);
    execute tidemark._compiled_definition(p_dimension_name, 'on_node', p_body);
    execute 'select create_distributed_function($1, ''p_value'', colocate_with := $2, force_delegation := true)'
    using tidemark._compiled_signature('on_node', p_dimension_name)::regprocedure, (
        select d.history_relation::text from tidemark.dimensions as d where d.dimension_name = p_dimension_name
    );
    execute format('revoke execute on function %s from public', tidemark._compiled_signature('on_node', p_dimension_name));
    perform tidemark._let_propagate(v_propagates);
end;
$$;
