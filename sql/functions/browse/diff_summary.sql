create or replace function tidemark.diff_summary(
    p_dimension_name text,
    p_from timestamptz,
    p_to timestamptz
)
returns table (
    created bigint,
    updated bigint,
    deleted bigint,
    changed_columns json,
    is_exact boolean
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- How much differs between two moments, net: keys that were created, updated and deleted, and in how many of the updated ones each column
-- differs, as a list of {"column_name", "keys"}, most first. Looks at 5,000 keys at most, and says whether those were all.
-- Errors: TM002 unknown dimension.
declare
    v_most constant integer := 5000;
    v_planner jsonb;
begin
    perform tidemark._assert_dimension_known(p_dimension_name);
    v_planner := tidemark._walk_keys(tidemark._is_dense(p_dimension_name, p_from, p_to));
    return query execute tidemark._laid_out(
        'with d as materialized (' || tidemark._key_diff_text() || $query$)
        select count(*) filter (where d.kind = 'created'), count(*) filter (where d.kind = 'updated'),
            count(*) filter (where d.kind = 'deleted'),
            (
                select coalesce(json_agg(c order by c.keys desc, c.column_name), '[]')
                from (
                    select n.column_name, count(*) as keys from d cross join unnest(d.changed) as n (column_name) group by n.column_name
                ) as c
            ),
            (
                select count(*) < $4
                from (
                    select h.valid_from from {history} as h
                    where (h.valid_from > {at} and h.valid_from <= {until}) or (h.valid_to > {at} and h.valid_to <= {until})
                    limit $4
                ) as n
            )
        from d
        $query$,
        tidemark._browse_parts(p_dimension_name) || '{"after": [], "most": [""]}'
    )
    using null::text[], p_from, p_to, v_most, tidemark._value_columns(p_dimension_name);
    perform tidemark._set_planner(v_planner);
end;
$$;
