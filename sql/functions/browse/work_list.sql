create or replace function tidemark.work_list(
    p_dimension_name text,
    p_limit integer
)
returns table (
    kind text,
    dimension_name text,
    subject text,
    state text,
    since timestamptz,
    details text
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- What there is to look after besides rejected changes, of a dimension (null: of all): each check as it last ended (those that fail
-- first), the last comparison of each table with its source, each time that a batch was taken out of history, and what was done by hand.
(
    select 'check', null::text, concat(c.suite, ': ', c.check_name), case when c.violations > 0 then 'fails' else 'passed' end,
        coalesce(c.failing_since, c.checked_at), case when c.violations > 0 then format('%s rows break the rule', c.violations) end
    from tidemark.check_results as c
    where p_dimension_name is null
    order by c.violations = 0, c.suite, c.check_name
    limit p_limit
)
union all
(
    select 'comparison', d.dimension_name, format('%s rows of the source', r.source_rows),
        case when r.missing + r.extra + r.different <= r.repaired then 'equal' else 'differs' end, r.reconciled_at,
        format('%s missing, %s extra, %s different, %s repaired', r.missing, r.extra, r.different, r.repaired)
    from tidemark.dimensions as d
    cross join lateral (
        select n.* from tidemark.reconciliations as n where n.dimension_name = d.dimension_name order by n.reconciled_at desc limit 1
    ) as r
    where p_dimension_name is null or d.dimension_name = p_dimension_name
    order by d.dimension_name
    limit p_limit
)
union all
(
    select 'retraction', t.dimension_name, t.batch_id, case when t.restored_at is null then 'out of history' else 'restored' end,
        t.retracted_at,
        format('%s changes, by %s: %s', t.retracted_changes, t.retracted_by, t.reason)
    from tidemark.retractions as t
    where p_dimension_name is null or t.dimension_name = p_dimension_name
    order by t.restored_at is not null, t.retracted_at desc
    limit p_limit
)
union all
(
    select 'action', a.dimension_name, a.batch_id, a.action, a.acted_at,
        concat_ws(
            ': ', concat_ws(', ', case when a.changes is not null then format('%s changes', a.changes) end, 'by ' || a.acted_by), a.reason
        )
    from tidemark.actions as a
    where p_dimension_name is null or a.dimension_name = p_dimension_name
    order by a.acted_at desc
    limit p_limit
);
$$;
