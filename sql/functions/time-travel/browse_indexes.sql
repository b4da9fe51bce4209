create or replace function tidemark.browse_indexes(
    p_dimension_name text default null
)
returns table (
    dimension_name text,
    versions bigint,
    is_on boolean,
    make_statements text [],
    drop_statements text []
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The two indexes for browsing by time of each history, or of one dimension's: of valid_from, and of valid_to where a version has ended.
-- With them <history>_diff and <history>_changes read what happened between two moments, and not the whole history. They are opt-in: every
-- load keeps them. Returns about how many versions there are (the planner's figure), whether both are there, under whatever name, and the
-- statements that make them while loads go on, or drop those made so. An index whose making was interrupted is made anew.
with history as (
    select d.dimension_name, h.oid, d.history_relation::text as name, n.nspname as schema_name, h.relname,
        greatest(h.reltuples, 0)::bigint as versions
    from tidemark.dimensions as d
    join pg_class as h on h.oid = d.history_relation and h.relpersistence <> 't'
    join pg_namespace as n on n.oid = h.relnamespace
    where d.dimension_name = coalesce(p_dimension_name, d.dimension_name)
),
wanted as (
    select h.*, w.place, w.column_name, w.predicate, i.index_name, o.own_name,
        exists (
            select
            from pg_index as x
            join pg_attribute as a on a.attrelid = x.indrelid and a.attnum = x.indkey[0]
            where x.indrelid = h.oid and x.indisvalid and a.attname = w.column_name
                and coalesce(pg_get_expr(x.indpred, x.indrelid), '') in ('', w.predicate)
        ) as is_there
    from history as h
    cross join (
        values (1, 'valid_from', '_browse_from', ''), (2, 'valid_to', '_browse_to', '(valid_to IS NOT NULL)')
    ) as w (place, column_name, ending, predicate)
    -- The longest beginning of the table's name that leaves room: 63 bytes are a name.
    cross join lateral (
        select case
            when octet_length(h.relname || w.ending) <= 63 then h.relname
            else max(left(h.relname, s.length)) || '_' || left(md5(h.relname), 8)
        end || w.ending as index_name
        from generate_series(1, 63) as s (length)
        where octet_length(left(h.relname, s.length)) <= 42
    ) as i
    left join lateral (
        select min(format('%I.%I', h.schema_name, c.relname)) as own_name
        from pg_index as x
        join pg_class as c on c.oid = x.indexrelid
        where x.indrelid = h.oid and right(c.relname, length(w.ending)) = w.ending
    ) as o on true
)
select
    w.dimension_name, max(w.versions), bool_and(w.is_there),
    array_agg(s.statement order by w.place, s.step) filter (where not w.is_there and (s.step = 2 or w.own_name is not null)),
    array_agg(s.statement order by w.place) filter (where s.step = 1 and w.own_name is not null)
from wanted as w
cross join lateral (
    values
    (1, format('drop index concurrently %s', w.own_name)),
    (2, format(
        'create index concurrently %I on %s (%s)%s', w.index_name, w.name, w.column_name, ' where ' || nullif(w.predicate, '')
    ))
) as s (step, statement)
group by w.dimension_name
order by w.dimension_name;
$$;
