create or replace function tidemark._create_as_of(
    p_dimension_name text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Writes <history>_as_of(p_moment) beside a history table, for an instant (timestamptz) and for a time without zone (timestamp), which is
-- read in the zone of the source, as a history without zone is. Neither carries a "set" clause, so that the planner looks inside.
-- One that somebody else wrote is left as it is. None is written for a temporary table, or where the name would be too long.
-- Safe to repeat: it writes what is not there, or says something else.
declare
    v_function record;
begin
    for v_function in
        select f.name, f.argument_type, f.history, f.body
        from (
            select format('%I.%I', n.nspname, h.relname || '_as_of') as name, t.argument_type, d.history_relation as history,
                format(
                    $body$
-- The version of every row that was in force at that moment%s.
-- Written by tidemark.compile_dimension.
select h.*
from %s as h
where h.valid_from <= %3$s and (h.valid_to > %3$s or h.valid_to is null);
$body$,
                    case t.argument_type when 'timestamp' then format(' (%s)', d.source_time_zone) end,
                    d.history_relation,
                    case
                        when a.atttypid = t.argument_type::regtype then 'p_moment'
                        else format('p_moment at time zone %L', d.source_time_zone)
                    end
                ) as body
            from tidemark.dimensions as d
            join pg_class as h on h.oid = d.history_relation and h.relpersistence <> 't' and octet_length(h.relname) <= 57
            join pg_namespace as n on n.oid = h.relnamespace
            join pg_attribute as a on a.attrelid = h.oid and a.attname = 'valid_from'
            cross join (values ('timestamptz'), ('timestamp')) as t (argument_type)
            where d.dimension_name = p_dimension_name
        ) as f
        left join pg_proc as p on p.oid = to_regprocedure(format('%s(%s)', f.name, f.argument_type))
        where p.oid is null or (p.prosrc like '%Written by tidemark.compile_dimension.%' and p.prosrc <> f.body)
    loop
        execute format(
            'create or replace function %s(p_moment %s) returns setof %s language sql stable parallel safe as %L',
            v_function.name, v_function.argument_type, v_function.history, v_function.body
        );
        perform tidemark._comment_from_header(to_regprocedure(format('%s(%s)', v_function.name, v_function.argument_type)));
    end loop;
end;
$$;

create or replace function tidemark._drop_companions(
    p_history_relation regclass
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Drops what a registration made beside a history table: the view of current versions, and the as-of functions.
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
        select format('function %s', p.oid::regprocedure)
        from pg_class as h
        join pg_proc as p on p.pronamespace = h.relnamespace and p.proname = h.relname || '_as_of' and p.prorettype = h.reltype
        where h.oid = p_history_relation
    loop
        execute 'drop ' || v_companion;
    end loop;
end;
$$;
