create or replace function tidemark.compile_dimension(
    p_dimension_name text
)
returns boolean
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Writes the two functions that make the history of a dimension, from its mapping and its history table as they are now:
-- tidemark.apply_<dimension> for a batch in order, tidemark.converge_<dimension> for any other. "\sf tidemark.apply_orders" shows one.
-- Where the history is distributed it writes tidemark.on_node_<dimension> instead of the two, and nodes write them for each shard that they
-- hold, at first use (tidemark._serve_node).
-- Writes a third, tidemark.known_<dimension>, which tells the history of a key as it was known at a moment, and a fourth,
-- tidemark.render_<dimension>, which makes CloudEvents of its events.
-- Also writes the functions that answer from its history, as <history>_as_of (tidemark._create_time_travel).
-- Registration, every change of a mapping and migrate call it; call it after the history table was altered by hand.
-- Safe to repeat: it returns whether anything was written. Where it writes, it waits for a loader of the dimension to end its batch.
-- Errors: TM002 unknown dimension; TM007 the history table is not there, or lacks a column that the mapping names.
declare
    v_propagates boolean := tidemark._let_propagate(false);
    v_lists jsonb;
    v_function record;
    v_former record;
    v_missing text;
    v_fingerprint text;
    v_for_nodes text;
    v_is_written boolean := false;
begin
    perform tidemark._assert_dimension_known(p_dimension_name);
    select string_agg(c.history_column, ', ' order by c.ordinal)
    into v_missing
    from tidemark.dimensions as d
    join tidemark.dimension_columns as c using (dimension_name)
    where d.dimension_name = p_dimension_name and not exists (
        select from pg_attribute as a where a.attrelid = d.history_relation and a.attname = c.history_column and not a.attisdropped
    );
    if v_missing is not null then
        raise exception using
            errcode = 'TM007',
            message = 'the history table lacks columns that the mapping names',
            detail = format('dimension=%s columns=%s', p_dimension_name, v_missing),
            hint = 'give them back their names, or register the table anew, under another name';
    end if;

    v_lists := tidemark._column_lists(p_dimension_name);
    for v_function in select b.* from tidemark._compiled_bodies(p_dimension_name, v_lists) as b loop
        if not exists (
            select from pg_proc as p where p.oid = to_regprocedure(v_function.signature) and p.prosrc = v_function.body
        ) then
            perform tidemark._lock_dimension(p_dimension_name, '');
            for v_former in
                select p.oid::regprocedure::text as signature
                from pg_proc as p
                where v_function.kind = 'known' and p.pronamespace = 'tidemark'::regnamespace and p.proname = v_function.function_name
                    and (
                        p.oid is distinct from to_regprocedure(v_function.signature)
                        or p.proargnames is distinct from array(
                            select 'p_known'
                            union all
                            (select k.argument_name from tidemark._key_arguments(p_dimension_name) as k order by k.place)
                        )
                    )
            loop
                execute format('drop function %s', v_former.signature);
            end loop;
            if v_function.kind = 'on_node' then
                perform tidemark._create_on_nodes(p_dimension_name, v_function.body);
            else
                execute tidemark._compiled_definition(p_dimension_name, v_function.kind, v_function.body);
            end if;
            perform tidemark._comment_from_header(v_function.signature::regprocedure);
            v_is_written := true;
        end if;
    end loop;

    perform tidemark._create_time_travel(p_dimension_name, v_lists);
    v_fingerprint := tidemark._history_fingerprint(p_dimension_name);
    if tidemark._distributed_by(p_dimension_name) is not null then
        v_for_nodes := md5(tidemark._node_definitions(p_dimension_name, 'shard', 0)::text);
    end if;
    update tidemark.dimensions as d
    set compiled_from = v_fingerprint, compiled_for_nodes = v_for_nodes
    where d.dimension_name = p_dimension_name
        and (d.compiled_from is distinct from v_fingerprint or d.compiled_for_nodes is distinct from v_for_nodes);
    perform tidemark._let_propagate(v_propagates);
    return v_is_written;
end;
$$;

create or replace function tidemark._compile_dimensions()
returns table (
    dimension_name text,
    fault text
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Compiles every dimension (tidemark.compile_dimension). Returns those that cannot be, and why: their functions stay as they are, and
-- tidemark.apply_batch refuses what is loaded for them.
#variable_conflict use_column
begin
    for dimension_name in select d.dimension_name from tidemark.dimensions as d order by d.dimension_name loop
        begin
            perform tidemark.compile_dimension(_compile_dimensions.dimension_name);
        exception
            when sqlstate 'TM007' then
                fault := sqlerrm;
                return next;
        end;
    end loop;
end;
$$;

create or replace function tidemark._compiled_bodies(
    p_dimension_name text,
    p_lists jsonb
)
returns table (
    kind text,
    function_name text,
    signature text,
    body text
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The functions of a dimension as its mapping and its history table are now, by its lists (tidemark._column_lists): what each is called and
-- has to say.
select b.kind, tidemark._function_name(b.kind, p_dimension_name), tidemark._compiled_signature(b.kind, p_dimension_name), b.body
from (
    select 'apply', tidemark._apply_body(p_lists) where tidemark._distributed_by(p_dimension_name) is null
    union all
    select 'converge', tidemark._converge_body(p_lists) where tidemark._distributed_by(p_dimension_name) is null
    union all
    select 'on_node', tidemark._node_body(p_dimension_name) where tidemark._distributed_by(p_dimension_name) is not null
    union all
    select 'versions', tidemark._versions_body(p_lists) where tidemark._distributed_by(p_dimension_name) is not null
    union all
    select 'known', tidemark._known_body(p_lists)
    union all
    select 'render', tidemark._render_body(p_lists)
) as b (kind, body);
$$;

create or replace function tidemark._compiled_definition(
    p_dimension_name text,
    p_kind text,
    p_body text,
    p_ending text default ''
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
-- The statement that creates a compiled function with a body: tidemark.apply_<dimension> and converge_<dimension> write, called within
-- tidemark.apply_batch_parts; known_<dimension> reads, called by anybody, and so pins what decides how values print and are read;
-- render_<dimension> reads, called within tidemark.read_events.
-- Those of a shard (apply, converge, slice) have its ending, and say what they were written from ({digest}, tidemark._install_on_node).
select case p_kind
    when 'render' then format(
        $create$
        create or replace function tidemark.%I(
            p_events tidemark.events[]
        )
        returns setof tidemark.rendered_event
        language plpgsql
        stable
        set search_path = pg_catalog, pg_temp
        set plan_cache_mode = force_generic_plan
        as %L
        $create$,
        tidemark._function_name(p_kind, p_dimension_name), p_body
    )
    when 'known' then format(
        $create$
        create or replace function tidemark.%I(
            p_known timestamptz,
            %s
        )
        returns setof %s
        language plpgsql
        stable
        parallel safe
        cost 5000
        rows 5
        set search_path = pg_catalog, pg_temp
        set plan_cache_mode = force_generic_plan
        set timezone = 'UTC' set datestyle = 'ISO, MDY' set intervalstyle = 'postgres' set extra_float_digits = 1
        set bytea_output = 'hex' set lc_monetary = 'C' set array_nulls = on set xmloption = 'content'
        as %L
        $create$,
        tidemark._function_name(p_kind, p_dimension_name),
        (
            select string_agg(format('%I %s', k.argument_name, k.type_name), ', ' order by k.place)
            from tidemark._key_arguments(p_dimension_name) as k
        ),
        (select d.history_relation from tidemark.dimensions as d where d.dimension_name = p_dimension_name),
        p_body
    )
    when 'on_node' then format(
        $create$
        create or replace function tidemark.%I(
            p_value %s,
            p_request jsonb,
            p_changes json,
            p_kept json
        )
        returns json
        language plpgsql
        volatile
        set search_path = pg_catalog, pg_temp
        as %L
        $create$,
        tidemark._function_name(p_kind, p_dimension_name),
        (
            select (tidemark._distribution_of(d.history_relation)).column_type
            from tidemark.dimensions as d
            where d.dimension_name = p_dimension_name
        ),
        p_body
    )
    when 'versions' then format(
        $create$
        create or replace function tidemark.%I(%s)
        returns setof %s
        language plpgsql
        stable
        cost 5000
        rows 5
        set search_path = pg_catalog, pg_temp
        as %L
        $create$,
        tidemark._function_name(p_kind, p_dimension_name),
        (
            select string_agg(format('%I %s', v.argument_name, v.type_name), ', ' order by v.place)
            from tidemark._version_arguments(p_dimension_name) as v
        ),
        (select d.history_relation from tidemark.dimensions as d where d.dimension_name = p_dimension_name),
        p_body
    )
    when 'slice' then format(
        $create$
        create or replace function tidemark.%I(
            p_batch tidemark.batches,
            p_changes json,
            p_is_last boolean
        )
        returns json
        language plpgsql
        stable
        set search_path = pg_catalog, pg_temp
        set plan_cache_mode = force_generic_plan
        as %L
        $create$,
        tidemark._fit_name(tidemark._function_name(p_kind, p_dimension_name), p_ending),
        p_body || e'-- {digest}\n'
    )
    else format(
        $create$
        create or replace function tidemark.%I(
            p_batch tidemark.batches,
            p_changes json,
            p_lines integer[],
            p_missing text[]%s
        )
        returns table (
            inserted_versions bigint,
            closed_versions bigint,
            absorbed_changes bigint,
            corrected_versions bigint,
            late_changes bigint,
            change_count bigint,
            first_bad_line integer,
            least_captured_at timestamptz,
            greatest_captured_at timestamptz
        )
        language plpgsql
        volatile
        set search_path = pg_catalog, pg_temp
        set plan_cache_mode = force_generic_plan
        as %L
        $create$,
        tidemark._fit_name(tidemark._function_name(p_kind, p_dimension_name), p_ending),
        case p_kind when 'apply' then ', p_in_order_since timestamptz' end,
        p_body || case when p_ending <> '' then e'-- {digest}\n' else '' end
    )
end;
$$;

create or replace function tidemark._key_arguments(
    p_dimension_name text
)
returns table (
    place bigint,
    history_column text,
    argument_name text,
    type_name text
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The key columns of a history as arguments of a compiled function, in the order of the mapping: p_<column>, or by number where that is
-- too long for a name or an argument of another meaning.
select k.place, k.history_column,
    case when octet_length(k.history_column) > 61 or k.history_column = 'known' then 'p_key_' || k.place else 'p_' || k.history_column end,
    k.type_name
from (
    select row_number() over (order by c.ordinal) as place, c.history_column, format_type(a.atttypid, null) as type_name
    from tidemark.dimensions as d
    join tidemark.dimension_columns as c on c.dimension_name = d.dimension_name and c.column_role = 'business key'
    join pg_attribute as a on a.attrelid = d.history_relation and a.attname = c.history_column
    where d.dimension_name = p_dimension_name
) as k;
$$;

create or replace function tidemark._function_name(
    p_kind text,
    p_dimension_name text
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
-- The name of a function that is compiled for a dimension: apply_orders, converge_orders. Where that would be longer than a name may be,
-- or is the name of a function of Tidemark's own (apply_batch), or looks like a name that was shortened, it is shortened, if need be, and
-- ends with a part of a hash of the dimension's name: so no two dimensions get one name.
begin
    return (
        select case
            when octet_length(n.plain) <= 63 and p_dimension_name !~ '_[0-9a-f]{8}$' and not exists (
                select
                from pg_proc as p
                where p.pronamespace = 'tidemark'::regnamespace and p.proname = n.plain
                    and (p.proargnames[1] is distinct from 'p_batch' or p.proargtypes[0] <> 'tidemark.batches'::regtype)
                    and p.proargnames[1] is distinct from 'p_known' and p.proargnames[1] is distinct from 'p_events'
                    and p.proargnames[1] is distinct from 'p_value'
            ) then n.plain
            else (
                select max(left(n.plain, s.length))
                from generate_series(1, 63) as s (length)
                where octet_length(left(n.plain, s.length)) <= 54
            ) || '_' || left(md5(p_dimension_name), 8)
        end
        from (select p_kind || '_' || p_dimension_name as plain) as n
    );
end;
$$;

create or replace function tidemark._history_fingerprint(
    p_dimension_name text
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
-- What the compiled functions of a dimension take for granted of its history table and mapping, in short: the name of the table, name, type
-- and nullability of each column that is mapped, the check constraints, what each column is mapped from, and whether it is masked. The same
-- after a dump and restore. Asked once a batch.
begin
    return (
        select md5(string_agg(f.part, e'\n' order by f.part collate "C"))
        from tidemark.dimensions as d
        cross join lateral (
            select format('%s %s %s', d.history_relation, d.change_order, d.source_time_zone) as part
            union all
            select format(
                '%s: %s as %s %s %s%s%s', c.ordinal, c.source_column, c.column_role, c.history_column,
                format_type(a.atttypid, a.atttypmod), case when a.attnotnull then ' not null' end,
                case when c.masked_at is not null then ' masked' end
            )
            from tidemark.dimension_columns as c
            left join pg_attribute as a on a.attrelid = d.history_relation and a.attname = c.history_column
            where c.dimension_name = d.dimension_name
            union all
            select format('check %s', pg_get_expr(r.conbin, r.conrelid))
            from pg_constraint as r
            where r.conrelid = d.history_relation and r.contype = 'c'
        ) as f
        where d.dimension_name = p_dimension_name
    );
end;
$$;

create or replace function tidemark._compiled_signature(
    p_kind text,
    p_dimension_name text
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Name and types of a function that is compiled for a dimension, for to_regprocedure and for statements.
select format('tidemark.%I(%s)', tidemark._function_name(p_kind, p_dimension_name), case p_kind
    when 'on_node' then (
        select (tidemark._distribution_of(d.history_relation)).column_type
        from tidemark.dimensions as d
        where d.dimension_name = p_dimension_name
    ) || ', jsonb, json, json'
    when 'versions' then (
        select string_agg(v.type_name, ', ' order by v.place) from tidemark._version_arguments(p_dimension_name) as v
    )
    when 'apply' then 'tidemark.batches, json, integer[], text[], timestamptz'
    when 'converge' then 'tidemark.batches, json, integer[], text[]'
    when 'render' then 'tidemark.events[]'
    else (
        select 'timestamptz' || string_agg(', ' || k.type_name, '' order by k.place)
        from tidemark._key_arguments(p_dimension_name) as k
    )
end);
$$;

create or replace function tidemark._drop_compiled(
    p_dimension_name text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Drops the functions that tidemark.compile_dimension wrote for a dimension, while its mapping is still there, and those beside its history
-- that call one of them. Safe to repeat.
-- Errors: 2BP01 something else depends on one of them.
begin
    execute (
        select format('drop function if exists %s', string_agg(f.signature, ', '))
        from (
            select tidemark._compiled_signature(k.kind, p_dimension_name) as signature
            from (values ('apply'), ('converge'), ('known'), ('render'), ('on_node'), ('versions')) as k (kind)
            where k.kind not in ('on_node', 'versions') or tidemark._distributed_by(p_dimension_name) is not null
            union all
            select p.oid::regprocedure::text
            from tidemark.dimensions as d
            join pg_class as h on h.oid = d.history_relation
            join pg_proc as p on p.pronamespace = h.relnamespace and p.proname = h.relname || '_as_known' and p.prorettype = h.reltype
            where d.dimension_name = p_dimension_name and p.prosrc like '%Written by tidemark.compile_dimension.%'
        ) as f
    );
end;
$$;
