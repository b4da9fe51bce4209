create or replace function tidemark._create_time_travel(
    p_dimension_name text,
    p_lists jsonb
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
-- Writes the functions that answer from a history beside its table (tidemark._time_travel_functions lists them). Whoever may read the
-- history may call them: they run with the rights of their caller. One that somebody else wrote is left as it is. p_lists are the lists of
-- the dimension (tidemark._column_lists).
-- Safe to repeat: it writes what is not there, or says or returns something else.
-- Errors: 2BP01 a function returns other columns now, and something depends on it as it was.
declare
    v_function record;
    v_signature text;
begin
    for v_function in
        select f.*, p.oid is not null and pg_get_function_result(p.oid) <> f.returned as returns_other
        from tidemark._time_travel_functions(p_dimension_name, p_lists) as f
        left join pg_proc as p on p.oid = to_regprocedure(format('%s(%s)', f.name, f.argument_types))
        where p.oid is null or (
            p.prosrc like '%Written by tidemark.compile_dimension.%'
            and (p.prosrc <> f.body or pg_get_function_result(p.oid) <> f.returned)
        )
    loop
        v_signature := format('%s(%s)', v_function.name, v_function.argument_types);
        if v_function.returns_other then
            execute format('drop function %s', v_signature);
        end if;
        execute format(
            'create or replace function %s(%s) returns %s %s as %L',
            v_function.name, v_function.arguments, v_function.returned, v_function.attributes, v_function.body
        );
        execute format('grant execute on function %s to public', v_signature);
        perform tidemark._comment_from_header(v_signature::regprocedure);
    end loop;
end;
$$;

create or replace function tidemark._time_travel_functions(
    p_dimension_name text,
    p_lists jsonb
)
returns table (
    name text,
    arguments text,
    argument_types text,
    returned text,
    attributes text,
    body text
)
language sql
stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
-- The functions that belong beside the history of a dimension, each for an instant (timestamptz) and for a time without zone (timestamp),
-- which is read in the zone of the source, as a history without zone is. None for a temporary table, or where a name would be too long.
-- They are in SQL and carry no "set" clause, so that the planner looks inside; what they return is said as PostgreSQL says it. Of a history
-- that is distributed they are in PL/pgSQL: Citus plans no function in SQL that has arguments.
-- Their texts are laid out by tidemark._laid_out with the parts of tidemark._time_travel_parts; what is not materialized PostgreSQL works
-- out anew wherever it is named.
with parts as materialized (
    select t.* from tidemark._time_travel_parts(p_dimension_name) as t
)
select
    format('%I.%I', n.nspname, h.relname || f.ending),
    array_to_string(f.arguments, format(' %s, ', t.time_type)) || ' ' || t.time_type,
    array_to_string(array_fill(t.time_type, array[cardinality(f.arguments)]), ', '),
    f.returned, tidemark._time_travel_language(d.distributed_by), tidemark._as_planned_by_citus(
        tidemark._laid_out(f.text, t.parts), d.distributed_by
    )
from tidemark.dimensions as d
join pg_class as h on h.oid = d.history_relation and h.relpersistence <> 't'
join pg_namespace as n on n.oid = h.relnamespace
cross join parts as t
cross join lateral (
    values
    ('_as_of', array['p_moment'], format('SETOF %s', d.history_relation), tidemark._as_of_text()),
    ('_diff', array['p_from', 'p_to'], t.parts ->> 'returns_diff', tidemark._diff_text()),
    ('_changes', array['p_from', 'p_to'], t.parts ->> 'returns_changes', tidemark._changes_text())
) as f (ending, arguments, returned, text)
where d.dimension_name = p_dimension_name and octet_length(h.relname || f.ending) <= 63
union all
-- What was valid and when it was known are moments of two clocks: each has a type of its own.
select
    format('%I.%I', n.nspname, h.relname || '_as_known'),
    format('p_valid %s, p_known %s', v.time_type, k.time_type), format('%s, %s', v.time_type, k.time_type),
    format('SETOF %s', d.history_relation), tidemark._time_travel_language(d.distributed_by), tidemark._as_planned_by_citus(
        tidemark._laid_out(
            tidemark._as_known_text(),
            v.parts || p_lists || jsonb_build_object(
                'as_of', quote_ident(h.relname || '_as_of'), 'known_at', k.parts -> 'known_instant', 'known_zone', k.parts -> 'zone'
            )
        ), d.distributed_by
    )
from tidemark.dimensions as d
join pg_class as h on h.oid = d.history_relation and h.relpersistence <> 't' and octet_length(h.relname || '_as_known') <= 63
join pg_namespace as n on n.oid = h.relnamespace
cross join parts as v
cross join parts as k
where d.dimension_name = p_dimension_name;
$$;

create or replace function tidemark._time_travel_language(
    p_distributed_by text
)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
-- What the functions beside a history are written in.
select case when p_distributed_by is null then 'language sql stable parallel safe' else 'language plpgsql stable' end;
$$;

create or replace function tidemark._as_planned_by_citus(
    p_text text,
    p_distributed_by text
)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
-- A query with a header as the body of a function in SQL, as it is; in PL/pgSQL for a history that is distributed.
select case
    when p_distributed_by is null then p_text
    else regexp_replace(p_text, '^((?:\s*--[^\n]*\n)+)', e'\\1#variable_conflict use_column\nbegin\nreturn query ') || e'end;\n'
end;
$$;

create or replace function tidemark._time_travel_parts(
    p_dimension_name text
)
returns table (
    time_type text,
    parts jsonb
)
language sql
stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
-- What differs from history to history in the texts of tidemark._time_travel_functions, for arguments of either type of times.
-- An argument p_moment is {moment} as the history holds times, and {moment_instant} as a timestamptz; by its number where a column of the
-- history has its name. Names of Tidemark's own begin with a mark (own) that no column of the history begins with: _, or more of them.
-- A column of the key that is called as one that a function adds has that mark before its name in what the function returns.
with history as (
    select d.*, d.history_relation::text as name, a.atttypid as time_type,
        (
            select '_' || coalesce(max(substring(o.attname from '^_+')), '')
            from pg_attribute as o
            where o.attrelid = d.history_relation and not o.attisdropped
        ) as own
    from tidemark.dimensions as d
    join pg_attribute as a on a.attrelid = d.history_relation and a.attname = 'valid_from'
    where d.dimension_name = p_dimension_name
),
arguments as (
    select t.time_type, jsonb_object_agg(p.name, p.expression) as parts
    from history as h
    cross join (values ('timestamptz'), ('timestamp')) as t (time_type)
    cross join (values ('moment', 1), ('from', 1), ('to', 2), ('valid', 1), ('known', 2)) as g (name, number)
    cross join lateral (
        select case
            when exists (
                select from pg_attribute as o where o.attrelid = h.history_relation and o.attname = 'p_' || g.name
            ) then format('$%s', g.number)
            else 'p_' || g.name
        end as given
    ) as w
    cross join lateral (
        select w.given, format('%s at time zone %L', w.given, h.source_time_zone) as other
    ) as m
    cross join lateral (
        values
        (g.name, case when h.time_type = t.time_type::regtype then m.given else m.other end),
        (g.name || '_instant', case t.time_type when 'timestamptz' then m.given else m.other end)
    ) as p (name, expression)
    group by t.time_type
),
columns as (
    select e.ordinal, e.history_column as name, e.column_role = 'business key' as is_key, n.before, n.after,
        -- The type that its values are compared in: the planner takes a key apart only where it is returned in that.
        case when t.compared_type = format_type(a.atttypid, null) then '' else '::' || t.compared_type end as cast_to,
        substr(e.compare_history, length(format('h.%I', e.history_column)) + 1) as compared_as,
        case
            -- Printed as in a session whose zone is UTC, which is how it was written.
            when t.compared_type = 'timestamp with time zone'
                then format('(to_json(%s at time zone ''UTC'') #>> ''{}'') || ''+00:00''', n.before)
            else tidemark._key_member(a.atttypid, n.before)
        end as printed,
        format(
            '%I %s',
            case when e.history_column = any (array[
                'p_from', 'p_to', 'what', 'happened_at', 'changed', 'before', 'after', 'applied_at'
            ]) then h.own || e.history_column else e.history_column end,
            t.compared_type
        ) as returned
    from history as h
    cross join tidemark._column_expressions(p_dimension_name) as e
    cross join lateral (
        select format('%sbefore.%I', h.own, e.history_column) as before, format('%safter.%I', h.own, e.history_column) as after
    ) as n
    join pg_attribute as a on a.attrelid = h.history_relation and a.attname = e.history_column
    cross join lateral (
        select case u.type when 'character varying' then 'text' else u.type end as compared_type
        from tidemark._undomained_type(a.atttypid, null) as u (type)
    ) as t
),
lists as materialized (
    select jsonb_object_agg(l.name, l.items) as parts
    from (
        select l.name, coalesce(jsonb_agg(l.item order by c.ordinal) filter (where l.is_in), '[]') as items
        from columns as c
        cross join lateral (
            values
            ('joined_keys', c.is_key, format('coalesce(%1$s%2$s, %3$s%2$s)', c.before, c.cast_to, c.after)),
            ('before_keys', c.is_key, c.before || c.cast_to),
            ('after_keys', c.is_key, c.after || c.cast_to),
            ('same_key', c.is_key, format('%s = %s', c.before, c.after)),
            ('printed_key', c.is_key, format('%L, %s', c.name, c.printed)),
            ('returned_keys', c.is_key, c.returned),
            ('differences', not c.is_key, format(
                'case when %1$s%2$s is distinct from %3$s%2$s then %4$L end', c.before, c.compared_as, c.after, c.name
            ))
        ) as l (name, is_in, item)
        group by l.name
    ) as l
)
select a.time_type, a.parts || l.parts || jsonb_build_object(
    'own', h.own,
    'dimension', quote_literal(h.dimension_name),
    'history', h.name,
    'as_of', translate(c.relname, e'\n\r', '  ') || '_as_of',
    'changes', translate(c.relname, e'\n\r', '  ') || '_changes',
    'at_utc', case h.time_type when 'timestamp'::regtype then ' at time zone ''UTC''' else '' end,
    -- In a header, after the moments.
    'zone', case a.time_type when 'timestamp' then format(' (%s)', h.source_time_zone) else '' end,
    'returns_diff', format(
        'TABLE(%1$s, what text, changed text[], before %2$s, after %2$s)', r.keys, h.name
    ),
    'returns_changes', format(
        'TABLE(%1$s, what text, happened_at %2$s, changed text[], batch_id text, change_line integer, captured_at %3$s, applied_at %3$s,'
        ' before %4$s, after %4$s)',
        r.keys, format_type(h.time_type, null), format_type('timestamptz'::regtype, null), h.name
    )
)
from history as h
join pg_class as c on c.oid = h.history_relation
cross join arguments as a
cross join lists as l
cross join lateral (
    select string_agg(k.item, ', ' order by k.place) as keys
    from jsonb_array_elements_text(l.parts -> 'returned_keys') with ordinality as k (item, place)
) as r;
$$;

create or replace function tidemark._drop_companions(
    p_history_relation regclass
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Drops what a registration made beside a history table: the view of current versions, and the functions that answer from it.
-- Errors: 2BP01 something else depends on one of them.
declare
    v_companion text;
begin
    for v_companion in
        select format('view %s', c.oid::regclass)
        from pg_class as h
        join pg_class as c on c.relnamespace = h.relnamespace and c.relkind = 'v'
            and c.relname = regexp_replace(h.relname, '_history$', '') || '_current'
        where h.oid = p_history_relation
        union all
        select distinct format('function %s', p.oid::regprocedure)
        from pg_class as h
        join pg_depend as x on x.refclassid = 'pg_type'::regclass and x.refobjid = h.reltype and x.classid = 'pg_proc'::regclass
        join pg_proc as p on p.oid = x.objid and p.pronamespace = h.relnamespace
        where h.oid = p_history_relation
            and (p.proname = h.relname || '_as_of' or p.prosrc like '%Written by tidemark.compile_dimension.%')
    loop
        execute 'drop ' || v_companion;
    end loop;
end;
$$;
