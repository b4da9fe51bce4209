create or replace function tidemark.change_histogram(
    p_dimension_name text,
    p_from timestamptz,
    p_to timestamptz,
    p_buckets integer
)
returns table (
    starts_at timestamptz,
    ends_at timestamptz,
    changes bigint,
    is_exact boolean
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- How many versions of a history began in each of p_buckets equal parts of the time from p_from (null: of its first version) to p_to.
-- Exact where the history is small, or few began then and an index on valid_from finds them; else as the planner's statistics have it,
-- and nothing where there are none: a large history is never read for it. Keys are spread over partitions by hash, so that the statistics
-- of one say when the versions of all of them began.
-- Errors: TM002 unknown dimension.
declare
    v_parts jsonb := tidemark._browse_parts(p_dimension_name);
    v_history regclass := (select d.history_relation from tidemark.dimensions as d where d.dimension_name = p_dimension_name);
    v_is_small boolean := (
        select sum(pg_relation_size(p.part)) < 32 * 1024 * 1024 from tidemark._history_parts(v_history) as p (part)
    );
    v_is_indexed boolean := tidemark._leads_an_index(v_history, 'valid_from');
    v_most constant integer := 100000;
    v_bounds timestamptz[];
    v_versions double precision;
    v_count integer := 0;
begin
    perform tidemark._assert_dimension_known(p_dimension_name);
    if not v_is_small then
        execute tidemark._laid_out(
            $query$
            select array(
                select {valid_from} from unnest(s.histogram_bounds::text::{type}[]) as h (valid_from)
            ), tidemark._estimate($1)
            from tidemark._history_parts($1) as p (part)
            join pg_class as c on c.oid = p.part
            join pg_namespace as n on n.oid = c.relnamespace
            join pg_stats as s on s.schemaname = n.nspname and s.tablename = c.relname and s.attname = 'valid_from'
            order by c.reltuples desc
            limit 1
            $query$,
            v_parts || jsonb_build_object('type', (
                select format_type(a.atttypid, -1) from pg_attribute as a where a.attrelid = v_history and a.attname = 'valid_from'
            ))
        )
        into v_bounds, v_versions using v_history;
    end if;
    if p_from is null and (v_is_small or v_is_indexed) then
        execute tidemark._laid_out('select {valid_from} from {history} as h order by h.valid_from limit 1', v_parts) into p_from;
    end if;
    p_from := coalesce(p_from, v_bounds[1]);
    if v_is_indexed and not v_is_small then
        execute tidemark._laid_out(
            'select count(*) from ('
            'select h.valid_from from {history} as h where h.valid_from >= {at} and h.valid_from < {until} limit $1'
            ') as n', v_parts
        )
        into v_count using v_most + 1, p_from, p_to;
    end if;

    if p_from >= p_to or p_from is null then
        return;
    elsif v_is_small or (v_is_indexed and v_count <= v_most) then
        return query execute tidemark._laid_out(
            $query$
            select b.starts_at, b.starts_at + ($3 - $2) / $1, coalesce(c.changes, 0), true
            from (select n.place, $2 + ($3 - $2) / $1 * n.place as starts_at from generate_series(0, $1 - 1) as n (place)) as b
            left join (
                select width_bucket(
                    extract(epoch from {valid_from}), extract(epoch from $2), extract(epoch from $3), $1
                ) - 1 as place, count(*) as changes
                from {history} as h
                where h.valid_from >= {at} and h.valid_from < {until}
                group by 1
            ) as c on c.place = b.place
            order by b.place
            $query$,
            v_parts
        )
        using p_buckets, p_from, p_to;
    elsif cardinality(v_bounds) > 1 then
        return query
        select b.starts_at, b.ends_at, coalesce(sum(
                v_versions / (cardinality(v_bounds) - 1)
                * extract(epoch from least(b.ends_at, s.upper) - greatest(b.starts_at, s.lower))
                / greatest(extract(epoch from s.upper - s.lower), 0.000001)
            ), 0)::bigint, false
        from (
            select p_from + (p_to - p_from) / p_buckets * n.place as starts_at,
                p_from + (p_to - p_from) / p_buckets * (n.place + 1) as ends_at
            from generate_series(0, p_buckets - 1) as n (place)
        ) as b
        left join (
            select u.bound as lower, lead(u.bound) over (order by u.place) as upper
            from unnest(v_bounds) with ordinality as u (bound, place)
        ) as s on s.lower < b.ends_at and s.upper > b.starts_at
        group by b.starts_at, b.ends_at
        order by b.starts_at;
    end if;
end;
$$;
