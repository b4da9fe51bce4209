create or replace function tidemark._column_lists(
    p_dimension_name text
)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
-- What differs from dimension to dimension in a statement over its history, for tidemark._laid_out: names, conditions, and lists of columns
-- in the order of the mapping. In them c is a change, and h a version.
-- Times: a history that has no zone (at_utc) is reckoned with as if it were in UTC, which loses nothing; the capture of a change is
-- moved from the source's zone into that reckoning; where a change has no effective time, it takes its place.
-- Own names begin with a mark (own) that no column of the history begins with: _, or more of them. Where one is made of a column's name
-- and would be longer than a name may be, it is made of the column's number, after one _ more.
with dimension as (
    select d.*, a.atttypid = 'timestamp'::regtype as has_no_zone,
        case when a.atttypid = 'timestamp'::regtype then ' at time zone ''UTC''' else '' end as at_utc,
        d.change_order = 'effective_time' as is_by_time,
        tidemark._function_name('known', d.dimension_name) as known_function,
        tidemark._is_partitioned(d.history_relation) as is_partitioned,
        tidemark._event_type(d, '{kind}') as event_types,
        (
            select '_' || coalesce(max(substring(c.history_column from '^_+')), '')
            from tidemark.dimension_columns as c
            where c.dimension_name = d.dimension_name
        ) as own
    from tidemark.dimensions as d
    join pg_attribute as a on a.attrelid = d.history_relation and a.attname = 'valid_from'
    where d.dimension_name = p_dimension_name
),
captures as (
    select
        format(m.template, format('c.%scaptured_at', d.own), d.source_time_zone) as captured,
        jsonb_build_array(
            format(m.template, format('c.%sextracted_at::timestamptz', d.own), d.source_time_zone),
            format(m.template, 'p_batch.extracted_at', d.source_time_zone)
        ) as captures_read
    from dimension as d
    cross join lateral (
        select case
            when d.has_no_zone and d.source_time_zone <> 'UTC' then '(%1$s at time zone %2$L at time zone ''UTC'')'
            else '%1$s'
        end as template
    ) as m
),
expressions as (
    select e.*, d.own, d.known_function, k.argument_name, a.attnotnull as is_required, quote_ident(e.history_column) as name,
        m.masked_at is not null as is_masked,
        e.column_role = 'business key' as is_key, e.column_role = 'tracked' as is_tracked, e.column_role = 'untracked' as is_untracked,
        row_number() over (partition by e.column_role order by e.ordinal) as number_in_role,
        format('%L, %s', e.history_column, tidemark._key_member(a.atttypid, format('c.%I', e.history_column))) as printed_key,
        format('%L, %s', e.history_column, tidemark._key_member(a.atttypid, format('h.%I', e.history_column))) as printed_stored_key,
        case when e.stored = format('c.%I', e.history_column) then e.stored else format('%s as %I', e.stored, e.history_column) end as read,
        case when e.printed = format('c.%I', e.source_column) then e.printed else format('%s as %I', e.printed, e.source_column) end
            as printed_as_read,
        quote_ident(d.own || 'stored_' || n.suffix) as stored_name, quote_ident(d.own || 'shown_' || n.suffix) as shown_name,
        format('%L = any (c.%slacks)', e.source_column, d.own) as is_lacking,
        format('%L = any (b.%slacks)', e.source_column, d.own) as was_lacking
    from tidemark._column_expressions(p_dimension_name) as e
    left join tidemark._key_arguments(p_dimension_name) as k on k.history_column = e.history_column
    cross join dimension as d
    join pg_attribute as a on a.attrelid = d.history_relation and a.attname = e.history_column
    join tidemark.dimension_columns as m on m.dimension_name = d.dimension_name and m.history_column = e.history_column
    cross join lateral (
        select case
            when octet_length(d.own || 'stored_' || e.history_column) <= 63 then e.history_column else '_' || e.ordinal
        end as suffix
    ) as n
),
lists as (
    select l.name, coalesce(jsonb_agg(l.item order by e.ordinal) filter (where l.is_in), '[]') as items
    from expressions as e
    cross join lateral (
        values
        ('columns', true, e.name),
        ('values', true, 'c.' || e.name),
        ('read_as', true, format('%I %s', e.source_column, e.read_type)),
        ('stored_values', true, e.read),
        ('printed', true, e.printed_as_read),
        ('rounded', e.fits <> 'true', e.fits),
        ('shown_values', true, 'c.' || case when e.is_untracked then e.shown_name else e.name end),
        ('keys', e.is_key, e.name),
        ('key_values', e.is_key, 'c.' || e.name),
        ('read_keys_as', e.is_key, format('%I %s', e.source_column, e.read_type)),
        ('stored_keys', e.is_key, e.read),
        ('printed_keys', e.is_key, e.printed_as_read),
        ('stored_key_values', e.is_key, 'h.' || e.name),
        ('same_key', e.is_key, format('h.%1$s = c.%1$s', e.name)),
        ('key_is_null', e.is_key, format('c.%s is null', e.name)),
        ('key_arguments', e.is_key, format('%s.%s as %s', quote_ident(e.known_function), quote_ident(e.argument_name), e.name)),
        ('keys_as', e.is_key, format('%s %s', e.name, e.full_type)),
        ('printed_key', e.is_key, e.printed_key),
        ('printed_stored_key', e.is_key, e.printed_stored_key),
        ('moved_keys', e.is_key, case when e.printed = 'c.' || e.name then e.printed else format('%s as %s', e.printed, e.name) end),
        ('read_moved_as', e.is_key, format('%s %s', e.name, e.read_type)),
        ('compared', e.is_tracked, e.compare_change),
        ('equals_stored', e.is_tracked, format('%s is not distinct from %s', e.compare_change, e.compare_history)),
        ('content', e.is_tracked, format('c.%s::text collate "C"', e.name)),
        ('known', e.is_tracked, format('%L <> all (c.%slacks)', e.source_column, e.own)),
        ('tracked_values', e.is_tracked, 'c.' || e.name),
        ('stored_tracked', e.is_tracked, 'h.' || e.name),
        ('stored_untracked', e.is_untracked, 'h.' || e.name),
        ('stored_columns', true, 'h.' || e.name),
        ('version_tracked', e.is_tracked, format('(c.%sversion).%s', e.own, e.name)),
        ('event_values', (e.is_key or e.is_tracked) and not e.is_masked,
            case when e.printed = 'c.' || e.name then e.printed else format('%s as %s', e.printed, e.name) end),
        ('event_differences', e.is_tracked, format(
            'case when h_after.%1$s::text collate "C" is distinct from h_before.%1$s::text then %2$L end', e.name, e.history_column
        )),
        ('read_untracked_as', e.is_untracked, format('%I %s', e.source_column, e.read_type)),
        ('untracked_columns', e.is_untracked, e.name),
        ('untracked_values', e.is_untracked, 'c.' || e.name),
        ('stored_first_values', e.is_untracked, e.read),
        ('printed_untracked', e.is_untracked, e.printed_as_read),
        ('version_untracked', e.is_untracked, format('(c.%sversion).%s', e.own, e.name)),
        ('read_stored', e.is_untracked, format('h.%s as %s', e.name, e.stored_name)),
        ('stored', e.is_untracked, 'v.' || e.stored_name),
        ('none_stored', e.is_untracked, 'null'),
        ('stored_as_values', e.is_untracked, format('c.%s as %s', e.stored_name, e.name)),
        ('shown', e.is_untracked, 'c.' || e.shown_name),
        ('shown_alone', e.is_untracked, format('c.%s as %s', e.name, e.shown_name)),
        ('last_in_version', e.is_untracked, format('last_value(c.%s) over by_version as %s', e.name, e.shown_name)),
        ('overwrites_stored', e.is_untracked,
            format('c.%s::text collate "C" is distinct from c.%s::text', e.shown_name, e.stored_name)),
        ('overwrites_own', e.is_untracked, format('c.%s::text collate "C" is distinct from c.%s::text', e.shown_name, e.name)),
        ('set_overwritten', e.is_untracked,
            format('%1$s = case when c.%2$sis_overwritten then c.%3$s else h.%1$s end', e.name, e.own, e.shown_name)),
        ('set_shown', not e.is_key, format('%s = c.%s', e.name, case when e.is_untracked then e.shown_name else e.name end)),
        ('absorbed_values', true, 'r.' || e.name),
        ('version_values', true, case
            when e.is_key then 'c.' || e.name
            when e.is_tracked then format('case when %1$s then null else h.%2$s end as %2$s', e.was_lacking, e.name)
            else format(
                'case when %1$s then null when (f.values_before -> %2$L) is null then h.%3$s else o.%3$s end as %3$s',
                e.was_lacking, e.source_column, e.name
            )
        end),
        ('settled_values', true, case
            when e.is_tracked then format(
                'case when %1$L = any (c.%2$sfills) then c.%2$scontent[%3$s]::%4$s else c.%5$s end as %5$s',
                e.source_column, e.own, e.number_in_role, e.full_type, e.name
            )
            else 'c.' || e.name
        end),
        ('shown_in_version', e.is_untracked, format(
            'tidemark.last_known(c.%1$s, c.%2$sverdict in (''opened'', ''unchanged'') and (%3$s) is not true) over by_version as %4$s',
            e.name, e.own, e.is_lacking, e.shown_name
        ))
    ) as l (name, is_in, item)
    group by l.name
),
-- A condition over a change: its row could not stand in history, for a null that a column does not take or a check constraint. Asked of
-- every change, those that open no version included: whether a change is good must not depend on what it meets, or the order of loading
-- would decide. The rules name columns without an alias: among the changes that are read, every name but Tidemark's own is a column.
standing as (
    select coalesce(jsonb_agg(s.condition order by s.place, s.name), '[]') as items
    from (
        select format('c.%s is null', e.name) as condition, e.ordinal as place, e.name
        from expressions as e
        where e.is_required and not e.is_key
        union all
        select format('not coalesce(%s, true)', r.expression), 2147483647, r.rule_name
        from tidemark._history_rules(p_dimension_name) as r
    ) as s
),
-- The columns of the history table, in its order: as the fold of a version says them, and as they are stored.
history_row as (
    select jsonb_agg(case
        when e.is_untracked then format('c.%s::%s', e.shown_name, c.full_type)
        when e.name is not null then format('c.%s::%s', e.name, c.full_type)
        when k.expression is not null then format(k.expression || '::%s', d.own, c.full_type)
        else format('(c.%sversion).%s', d.own, c.name)
    end order by c.place) as known_row,
    jsonb_agg('h.' || c.name order by c.place) as stored_row
    from dimension as d
    cross join lateral (
        select a.attnum as place, a.attname, quote_ident(a.attname) as name, format_type(a.atttypid, a.atttypmod) as full_type
        from pg_attribute as a
        where a.attrelid = d.history_relation and a.attnum > 0 and not a.attisdropped
    ) as c
    left join expressions as e on e.history_column = c.attname
    left join (
        values
        ('valid_from', '(c.%stakes_effect' || (select d.at_utc from dimension as d) || ')'),
        ('valid_to', '(c.%sends' || (select d.at_utc from dimension as d) || ')'),
        ('is_current', '(c.%sends is null)'),
        ('cdc_operation', 'c.%sversion_operation'),
        ('cdc_timestamp', '(c.%seffective' || (select d.at_utc from dimension as d) || ')'),
        ('batch_id', 'c.%sbatch_id'),
        ('change_line', 'c.%sline'),
        ('captured_at', 'c.%scaptured_at'),
        ('surrogate_key', 'c.%ssurrogate_key')
    ) as k (column_name, expression) on k.column_name = c.attname
)
select (
    -- A dimension may have no tracked column at all: all its rows are equal.
    select jsonb_object_agg(l.name, coalesce(n.items, l.items))
    from lists as l
    left join (
        values ('compared', '["true"]'::jsonb), ('equals_stored', '["true"]'), ('content', '["null"]'), ('known', '["true"]')
    ) as n (name, items) on n.name = l.name and l.items = '[]'
) || jsonb_build_object(
    'own', d.own,
    'name', translate(d.dimension_name, e'\n\r', '  '),
    'dimension', quote_literal(d.dimension_name),
    'dimension_name', d.dimension_name,
    'apply', quote_ident(tidemark._function_name('apply', d.dimension_name)),
    'converge', quote_ident(tidemark._function_name('converge', d.dimension_name)),
    'known_function', quote_ident(d.known_function),
    'render_function', quote_ident(tidemark._function_name('render', d.dimension_name)),
    'kind', '{kind}',
    'type', quote_literal(d.event_types),
    'source', quote_literal(tidemark._uri_part(d.dimension_name)),
    'since', format(
        '%L::timestamptz', coalesce(to_char(d.events_since at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US+00'), 'infinity')
    ),
    'subject', (
        select case count(*)
            when 1 then format('p.business_key::json ->> %L', min(e.history_column))
            else e'(\n                select json_agg(k.value order by k.place)::text\n                '
                'from json_each(p.business_key::json) with ordinality as k (name, value, place)\n            )'
        end
        from expressions as e
        where e.is_key
    ),
    'history', d.history_relation::text,
    -- The versions of the key c, for what is asked key by key outside of the functions that make history: Citus, which distributes some
    -- histories, plans no such query within another.
    'versions', case when d.distributed_by is null then d.history_relation::text else (
        select format(
            'tidemark.%I(%s)', tidemark._function_name('versions', d.dimension_name),
            string_agg('c.' || e.name, ', ' order by e.history_column <> d.distributed_by, e.ordinal)
        )
        from expressions as e
        where e.is_key
    ) end,
    -- What a version is numbered by, where its table does not do so itself (tidemark._part_lists).
    'identity', '[]'::jsonb,
    'next_identity', '[]'::jsonb,
    'at_utc', d.at_utc,
    'captured', c.captured,
    'captures_read', c.captures_read,
    'own_time', format(
        'case when isfinite(c.%1$seffective) and c.%1$seffective <= %2$s then c.%1$seffective else %2$s end', d.own, c.captured
    ),
    'known_row', h.known_row,
    'stored_row', h.stored_row,
    'cannot_stand', s.items,
    'local', case when d.distributed_by is null then '[""]' else '[]' end::jsonb,
    'distributed', case when d.distributed_by is null then '[]' else '[""]' end::jsonb,
    'by_capture', case when d.is_by_time then '[]' else '[""]' end::jsonb,
    'by_time', case when d.is_by_time then '[""]' else '[]' end::jsonb,
    'with_rounded', case when exists (select from expressions as e where e.fits <> 'true') then '[""]' else '[]' end::jsonb,
    'parted', case when d.is_partitioned then '[""]' else '[]' end::jsonb,
    'whole', case when d.is_partitioned then '[]' else '[""]' end::jsonb,
    'numbered', (
        select case when count(*) = 1 and bool_and(e.full_type in ('smallint', 'integer', 'bigint')) then '[""]' else '[]' end::jsonb
        from expressions as e
        where e.is_key
    ),
    'key_count', (select count(*)::text from expressions as e where e.is_key),
    'events', case when d.events_since is null then '[]' else '[""]' end::jsonb,
    'untracked', case when exists (select from expressions as e where e.is_untracked) then '[""]' else '[]' end::jsonb,
    'no_untracked', case when exists (select from expressions as e where e.is_untracked) then '[]' else '[""]' end::jsonb
)
from dimension as d
cross join captures as c
cross join standing as s
cross join history_row as h;
$$;

create or replace function tidemark._part_lists(
    p_dimension_name text,
    p_relation text,
    p_ending text,
    p_next_identity text
)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
-- The lists of a dimension (tidemark._column_lists) for functions that make the history of the keys of one part of it, a partition or a
-- shard: p_relation, as SQL names it, in the place of the history table, whose columns it has. Their names have the ending p_ending.
-- p_next_identity is an expression that gives the surrogate key of the next version, as a part need not have one of its own.
select tidemark._column_lists(p_dimension_name) || jsonb_build_object(
    'history', p_relation,
    'parted', '[]'::jsonb,
    'whole', '[""]'::jsonb,
    'apply', quote_ident(tidemark._fit_name(tidemark._function_name('apply', p_dimension_name), p_ending)),
    'converge', quote_ident(tidemark._fit_name(tidemark._function_name('converge', p_dimension_name), p_ending)),
    'identity', '["surrogate_key"]'::jsonb,
    'next_identity', jsonb_build_array(p_next_identity)
);
$$;
