-- The fragments of tidemark._statement_fragments, and those that only tidemark._converge_statement needs: in which order the
-- changes of a dimension are folded, and the columns whose value a version does not have from its own change alone.
-- Those are untracked columns (the last value counts) and tracked ones that a batch came without (the first value counts).
create or replace function tidemark._converge_fragments(
    p_dimension_name text
)
returns json
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
with base as (
    select f.f, f.f ->> 'key_values' as key_values, d.change_order = 'effective_time' as is_by_time,
        'case when isfinite(c.cdc_timestamp) and c.cdc_timestamp <= c.captured then c.cdc_timestamp else c.captured end' as own_time
    from tidemark.dimensions as d
    cross join (select tidemark._statement_fragments(p_dimension_name)::jsonb as f) as f
    where d.dimension_name = p_dimension_name
),
expressions as (
    select e.*,
        e.column_role = 'business key' as is_key,
        e.column_role = 'untracked' as is_untracked,
        e.column_role = 'untracked' or (e.column_role = 'tracked' and e.may_be_missing) as is_special,
        case when e.may_be_missing then format('(c.columns is null or %L = any (c.columns))', e.source_column) else 'true' end as is_known
    from tidemark._column_expressions(p_dimension_name) as e
)
select (b.f || jsonb_build_object(
    'order_time', case when b.is_by_time then b.own_time else 'c.captured_at' end,
    'captured_then', replace(b.f ->> 'captured', '$5', 'h.captured_at'),
    'absorbed_then', replace(b.f ->> 'captured', '$5', 'a.captured_at'),
    'precedes', case when b.is_by_time then format('h.valid_from < c.earliest%s', b.f ->> 'at_utc') else 'h.captured_at < c.earliest' end,
    'absorbed_since', case when b.is_by_time then 'true' else 'a.captured_at >= coalesce(c.anchor_captured_at, ''-infinity'')' end,
    'is_superseded', case
        when b.is_by_time
            then format('lead(c.order_time) over (partition by %s order by c.place) is not distinct from c.order_time', b.key_values)
        else 'false'
    end,
    'content', format('array[%s]::text[]', string_agg(format('c.%s::text collate "C"', e.value_name), ', ' order by e.ordinal)
        filter (where e.column_role = 'tracked')),
    'known', case
        when bool_or(e.column_role = 'tracked' and e.may_be_missing)
            then format('array[%s]::boolean[]', string_agg(e.is_known, ', ' order by e.ordinal) filter (where e.column_role = 'tracked'))
        else 'null::boolean[]'
    end,
    'version_values', string_agg(
        case
            when e.column_role = 'business key' then format('c.%s', e.value_name)
            else format(
                case
                    when e.is_untracked
                        then 'case when not %4$s then null when (f.values_before -> %1$L) is null then h.%2$I else o.%3$s end as %3$s'
                    when e.is_special then 'case when %4$s then h.%2$I end as %3$s'
                    else 'h.%2$I as %3$s'
                end,
                e.source_column, e.history_column, e.value_name, replace(e.is_known, 'c.columns', 'b.columns')
            )
        end, ', ' order by e.ordinal
    ),
    'values_aside', string_agg(format('r.%s', e.value_name), ', ' order by e.ordinal),
    'shown_now', coalesce(
        string_agg(format(', h.%I as stored_%s', e.history_column, e.ordinal), '' order by e.ordinal) filter (where e.is_special), ''
    ),
    'none_shown', coalesce(string_agg(format(', null as stored_%s', e.ordinal), '' order by e.ordinal) filter (where e.is_special), ''),
    'shown', coalesce(string_agg(
        format(
            ', first_value(c.%s) over (partition by %s, c.version_number, c.verdict in (''opened'', ''unchanged'')'
            ' order by %s desc, c.place %s) as shown_%s',
            e.value_name, b.key_values, e.is_known, case when e.is_untracked then 'desc' else 'asc' end, e.ordinal
        ), '' order by e.ordinal
    ) filter (where e.is_special), ''),
    'shown_values', string_agg(
        case when e.is_special then format('c.shown_%s', e.ordinal) else format('c.%s', e.value_name) end, ', ' order by e.ordinal
    ),
    'set_shown', coalesce(
        string_agg(format(', %I = c.shown_%s', e.history_column, e.ordinal), '' order by e.ordinal) filter (where e.is_special), ''
    ),
    'shows_otherwise', coalesce(string_agg(
        format('c.shown_%1$s::text collate "C" is distinct from c.stored_%1$s::text', e.ordinal), ' or ' order by e.ordinal
    ) filter (where e.is_special), 'false'),
    'is_overwritten', coalesce(string_agg(
        format('c.shown_%s::text collate "C" is distinct from c.%s::text', e.ordinal, e.value_name), ' or ' order by e.ordinal
    ) filter (where e.is_untracked), 'false'),
    'read_first_values', coalesce(
        string_agg(format('%I %s', e.source_column, e.read_type), ', ' order by e.ordinal) filter (where e.is_untracked), 'none text'
    ),
    'first_values', coalesce(string_agg(e.value_name, ', ' order by e.ordinal) filter (where e.is_untracked), 'none'),
    'stored_first_values', coalesce(
        string_agg(format('%s as %s', e.stored, e.value_name), ', ' order by e.ordinal) filter (where e.is_untracked), 'c.none'
    ),
    'print_first_values', coalesce(
        string_agg(format('%s as %I', e.printed, e.source_column), ', ' order by e.ordinal) filter (where e.is_untracked), 'null'
    ),
    'new_keys', string_agg(format('h.%I as %s', e.history_column, e.value_name), ', ' order by e.ordinal) filter (where e.is_key)
))::json
from expressions as e
cross join base as b
group by b.f, b.key_values, b.is_by_time, b.own_time;
$$;
