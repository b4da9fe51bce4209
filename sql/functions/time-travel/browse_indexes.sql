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
-- Of a history with partitions each partition gets one while loads go on, and then the history, which takes them as its own at once; to
-- drop that one waits for who uses the history.
with history as (
    select d.dimension_name, h.oid, d.history_relation::text as name, n.nspname as schema_name, h.relname,
        h.relkind = 'p' as is_parted, coalesce(tidemark._estimate(h.oid), 0) as versions
    from tidemark.dimensions as d
    join pg_class as h on h.oid = d.history_relation and h.relpersistence <> 't'
    join pg_namespace as n on n.oid = h.relnamespace
    where d.dimension_name = coalesce(p_dimension_name, d.dimension_name)
),
wanted as (
    select h.*, w.place, w.column_name, w.ending, w.predicate, i.index_name, o.own_name,
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
    cross join lateral tidemark._fit_name(h.relname, w.ending) as i (index_name)
    left join lateral (
        select min(format('%I.%I', h.schema_name, c.relname)) as own_name
        from pg_index as x
        join pg_class as c on c.oid = x.indexrelid
        where x.indrelid = h.oid and right(c.relname, length(w.ending)) = w.ending
    ) as o on true
)
select
    w.dimension_name, max(w.versions), bool_and(w.is_there),
    array_agg(s.statement order by w.place, s.step, s.statement) filter (where not w.is_there),
    array_agg(s.statement order by w.place) filter (where s.step = 1)
from wanted as w
cross join lateral (
    select 1 as step, format('drop index %s%s', case when not w.is_parted then 'concurrently ' end, w.own_name) as statement
    where w.own_name is not null
    union all
    select 2, format('drop index concurrently %I.%I', w.schema_name, c.relname)
    from tidemark._history_parts(w.oid) as p (part)
    join pg_index as x on x.indrelid = p.part
    join pg_class as c on c.oid = x.indexrelid and right(c.relname, length(w.ending)) = w.ending
    where w.is_parted and not exists (select from pg_inherits as i where i.inhrelid = x.indexrelid)
    union all
    select 3, format(
        'create index concurrently %I on %s (%s)%s',
        case when w.is_parted then tidemark._fit_name(c.relname, w.ending) else w.index_name end,
        c.oid::regclass, w.column_name, ' where ' || nullif(w.predicate, '')
    )
    from tidemark._history_parts(w.oid) as p (part)
    join pg_class as c on c.oid = p.part
    union all
    select 4, format('create index %I on %s (%s)%s', w.index_name, w.name, w.column_name, ' where ' || nullif(w.predicate, ''))
    where w.is_parted
) as s
group by w.dimension_name
order by w.dimension_name;
$$;
