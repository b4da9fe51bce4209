create or replace function tidemark._converge_statement(
    p_dimension_name text
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The statement that makes history equal to the fold of all changes ever applied, those of this batch included, written for a
-- dimension from its mapping. It holds for a batch in whatever place: late, out of order, or rejected before.
-- Parameters $1 to $6 and result as in tidemark._apply_statement; also $7 sequence and $8 columns of the batch, and in the result the
-- versions that tidemark._place_statement has yet to place. Only what differs is written, and what is in the way moves first:
-- versions that go, end earlier, or begin elsewhere (parked before all time, where nothing can collide), then those that grow.
begin
    return tidemark._fill_template(
        tidemark._slice_template() || $statement$
removed as (
    delete from {history} as h
    using outcome as c
    where c.origin = 'version' and c.verdict <> 'opened' and {key_matches} and h.valid_from = c.stored_from{at_utc}
    returning 1
),
kept as materialized (
    select c.*, c.takes_effect <> c.stored_from as is_moved,
        c.takes_effect = c.stored_from and coalesce(c.ends < coalesce(c.stored_to, 'infinity'), false) as is_shortened,
        c.ends is distinct from c.stored_to or c.version_operation <> c.stored_operation or {shows_otherwise} as is_changed,
        timestamptz '4713-01-01 00:00:00+00 BC' + c.surrogate_key * interval '1 microsecond' as parked
    from outcome as c
    where c.origin = 'version' and c.verdict = 'opened'
),
vacated as (
    update {history} as h
    set valid_from = case when c.is_moved then c.parked{at_utc} else h.valid_from end,
        valid_to = case when c.is_moved then (c.parked + interval '1 microsecond'){at_utc} else c.ends{at_utc} end,
        is_current = false, cdc_operation = c.version_operation, updated_at = $4 at time zone 'UTC'{set_shown}
    from kept as c
    where (c.is_moved or c.is_shortened) and {key_matches} and h.valid_from = c.stored_from{at_utc}
    returning 1
),
settled as (
    update {history} as h
    set valid_to = c.ends{at_utc}, is_current = c.ends is null,
        cdc_operation = c.version_operation, updated_at = $4 at time zone 'UTC'{set_shown}
    from kept as c
    where c.is_changed and not c.is_moved and not c.is_shortened and {key_matches} and h.valid_from = c.stored_from{at_utc}
        and (select count(*) from removed) + (select count(*) from vacated) >= 0
    returning 1
),
opened as (
    insert into {history} as h (
        {history_columns}, valid_from, valid_to, is_current, cdc_operation,
        cdc_timestamp, batch_id, created_at, updated_at, captured_at, change_line
    )
    select {shown_values}, c.takes_effect{at_utc}, c.ends{at_utc}, c.ends is null, c.version_operation,
        c.cdc_timestamp{at_utc}, c.batch_id, $4 at time zone 'UTC', $4 at time zone 'UTC', c.captured_at, c.change_line
    from outcome as c
    where c.origin <> 'version' and c.verdict = 'opened'
        and (select count(*) from removed) + (select count(*) from vacated) + (select count(*) from settled) >= 0
    order by c.captured_at, c.sequence, c.batch_id, c.change_line
    returning h.surrogate_key, h.is_current, {new_keys}, h.valid_from{at_utc} as takes_effect
),
forgotten as (
    delete from tidemark.first_values as f
    using outcome as c
    where f.dimension_name = {dimension} and f.surrogate_key = c.surrogate_key and c.has_first_values
        and (c.verdict <> 'opened' or not ({is_overwritten}))
),
remembered as (
    insert into tidemark.first_values (dimension_name, surrogate_key, values_before)
    select {dimension}, l.new_key, (select row_to_json(r.*) from (select {print_first_values}) as r)
    from (
        select c.*, coalesce(c.surrogate_key, o.surrogate_key) as new_key
        from outcome as c
        left join opened as o using ({key_names}, takes_effect)
        where c.verdict = 'opened' and not c.has_first_values and ({is_overwritten})
    ) as l
),
woken as (
    delete from tidemark.absorbed_changes as a
    using outcome as c
    where c.origin = 'absorbed' and c.verdict = 'opened'
        and a.dimension_name = {dimension} and a.shard = c.shard and a.batch_id = c.batch_id and a.change_line = c.change_line
),
judged_again as (
    update tidemark.absorbed_changes as a
    set reason = c.verdict, closed_at = case c.verdict when 'delete' then c.takes_effect end
    from outcome as c
    where c.origin = 'absorbed' and c.verdict <> 'opened'
        and (c.verdict, case c.verdict when 'delete' then c.takes_effect end) is distinct from (c.stored_reason, c.stored_closed_at)
        and a.dimension_name = {dimension} and a.shard = c.shard and a.batch_id = c.batch_id and a.change_line = c.change_line
),
absorbed as (
    insert into tidemark.absorbed_changes (
        dimension_name, shard, batch_id, change_line, business_key,
        cdc_operation, cdc_timestamp, captured_at, reason, closed_at, change
    )
    select {dimension}, l.shard, l.batch_id, l.change_line, l.business_key, coalesce(l.stored_operation, l.cdc_operation),
        l.cdc_timestamp, l.captured_at, l.verdict, case l.verdict when 'delete' then l.takes_effect end,
        (select row_to_json(r.*) from (
            select {printed}, coalesce(l.stored_operation, l.cdc_operation) as operation_type, l.cdc_timestamp,
                l.captured_at as extracted_at
        ) as r)
    from outcome as l
    where l.origin <> 'absorbed' and l.verdict <> 'opened'
)
select
    (select count(*) from opened) as inserted_versions,
    (select count(*) from kept as c where c.stored_to is null and c.ends is not null)
        + (select count(*) from opened where not is_current) as closed_versions,
    (select count(*) from outcome as c where c.origin = 'new' and c.verdict <> 'opened') as absorbed_changes,
    (select count(*) from removed) + (
        select count(*)
        from kept as c
        where c.is_moved or c.ends is distinct from coalesce(c.stored_to, c.ends) or c.version_operation <> c.stored_operation
    ) as corrected_versions,
    (select count(*) from outcome as c where c.origin = 'new' and c.is_followed) as late_changes,
    (select count(*) from change) as change_count,
    (
        select min(c.change_line)
        from change as c
        where c.cdc_operation is null or c.cdc_operation not in ('INSERT', 'UPDATE', 'DELETE')
            or c.cdc_timestamp is null or c.has_odd_capture or c.captured_at < '0001-01-01 00:00:00+00'
            or c.would_be_rounded or {key_is_null} or (c.cdc_operation <> 'DELETE' and {cannot_stand})
    ) as first_bad_line,
    (select min(c.captured_at) from change as c) as least_captured_at,
    (select max(c.captured_at) from change as c) as greatest_captured_at,
    (
        select json_agg(json_build_object(
            'version', (select row_to_json(r.*) from (select {printed}) as r),
            'parked', l.parked, 'takes_effect', l.takes_effect, 'ends', l.ends
        ))
        from kept as l
        where l.is_moved
    ) as to_place
        $statement$,
        tidemark._converge_fragments(p_dimension_name)
    );
end;
$$;

create or replace function tidemark._slice_template()
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
-- The first half of tidemark._converge_statement: reads the changes, puts the affected slice of stored history beside them,
-- and folds. A slice begins with the last version that no change of the batch can precede (its anchor), or with the key's first
-- change, and holds every change since: versions with the values they had first, absorbed changes, and those of the batch.
select $template$
with change as materialized (
    select coalesce(($6::integer[])[c.change_line], c.change_line::integer) as change_line, c.cdc_operation, c.cdc_timestamp,
        {captured} as captured, c.captured_at, c.has_odd_capture, not ({fits}) as would_be_rounded,
        {stored_values}
    from (
        select c.*, coalesce(c.extracted_at::timestamptz, $5) as captured_at,
            coalesce(c.extracted_at not like '____-__-__%', false) as has_odd_capture
        from rows from (json_to_recordset($1) as (
            {read_as}, operation_type text, cdc_timestamp timestamptz, extracted_at text
        )) with ordinality as c ({values}, cdc_operation, cdc_timestamp, extracted_at, change_line)
    ) as c
),
affected as (
    select l.*, json_build_object({key_pairs})::text as business_key
    from (select {key_values}, min({order_time}) as earliest from change as c group by {key_values}) as l
),
anchored as materialized (
    select c.*, v.valid_from as anchor_from, v.captured_at as anchor_captured_at
    from affected as c
    left join lateral (
        select h.valid_from, h.captured_at
        from {history} as h
        where {key_matches} and {precedes}
        order by h.valid_from desc
        limit 1
    ) as v on true
),
stored as (
    select {version_values}, 'UPDATE' as cdc_operation, h.cdc_timestamp{at_utc} as cdc_timestamp,
        {captured_then} as captured, h.captured_at, b.sequence, b.shard, h.batch_id::text as batch_id,
        h.change_line::integer as change_line, b.columns,
        'version' as origin, h.surrogate_key::bigint as surrogate_key, f.surrogate_key is not null as has_first_values,
        h.valid_from{at_utc} as stored_from, h.valid_to{at_utc} as stored_to, h.cdc_operation::text as stored_operation,
        null as stored_reason, null::timestamptz as stored_closed_at, c.business_key, c.anchor_from{at_utc} as anchor_from{shown_now}
    from anchored as c
    cross join lateral (
        select h.* from {history} as h
        where {key_matches} and h.valid_from >= coalesce(c.anchor_from, '-infinity')
        offset 0
    ) as h
    left join lateral (
        select b.sequence, b.shard, b.columns
        from tidemark.batches as b
        where b.dimension_name = {dimension} and b.batch_id = h.batch_id::text
        offset 0
    ) as b on true
    left join tidemark.first_values as f on f.dimension_name = {dimension} and f.surrogate_key = h.surrogate_key
    left join lateral (
        select {stored_first_values} from rows from (json_to_record(f.values_before) as ({read_first_values})) as c ({first_values})
    ) as o on true
    union all
    select {values_aside}, a.cdc_operation, a.cdc_timestamp,
        {absorbed_then}, a.captured_at, b.sequence, a.shard, a.batch_id, a.change_line, b.columns,
        'absorbed', null, false, null, null, null, a.reason, a.closed_at, c.business_key, c.anchor_from{at_utc}{none_shown}
    from anchored as c
    join tidemark.absorbed_changes as a
        on a.dimension_name = {dimension} and a.business_key = c.business_key and {absorbed_since}
    join tidemark.batches as b on b.dimension_name = {dimension} and b.shard = a.shard and b.batch_id = a.batch_id
    cross join lateral (
        select {stored_values} from rows from (json_to_record(a.change) as ({read_as})) as c ({values})
    ) as r
    union all
    select {values}, c.cdc_operation, c.cdc_timestamp, c.captured, c.captured_at, $7::bigint, $2, $3, c.change_line, $8::text[],
        'new', null, false, null, null, null, null, null, k.business_key, k.anchor_from{at_utc}{none_shown}
    from change as c
    join anchored as k using ({key_names})
),
timed as (
    select c.*, {order_time} as order_time, coalesce(c.stored_from = c.anchor_from, false) as is_anchor from stored as c
),
in_order as (
    select c.*, row_number() over by_key as place, c.anchor_from is null or bool_or(c.is_anchor) over by_key as is_in_slice,
        coalesce(bool_or(c.origin <> 'new') over (by_key rows between 1 following and unbounded following), false) as is_followed
    from timed as c
    window by_key as (
        partition by {key_values}
        order by c.order_time, c.captured_at, c.sequence nulls last, c.batch_id collate "C", c.shard collate "C", c.change_line
    )
),
in_slice as (
    select c.*, {is_superseded} as is_superseded from in_order as c where c.is_in_slice
),
folded as (
    select c.*,
        tidemark.fold(c.cdc_operation, c.cdc_timestamp, c.captured, {content}, {known}, case when c.is_anchor then c.stored_from end)
            filter (where not c.is_superseded) over (partition by {key_values} order by c.place) as state
    from in_slice as c
),
judged as (
    select c.*, case when c.is_superseded then 'superseded' else (c.state).verdict end as verdict, (c.state).takes_effect as takes_effect,
        count(*) filter (where not c.is_superseded and (c.state).verdict = 'opened')
            over (partition by {key_values} order by c.place) as version_number
    from folded as c
),
outcome as materialized (
    select c.*,
        lead(c.takes_effect) over (partition by {key_values}, c.verdict in ('opened', 'delete') order by c.place) as ends,
        case when c.is_anchor then c.stored_operation when (c.state).begins_life then 'INSERT' else 'UPDATE' end as version_operation{shown}
    from judged as c
),
$template$;
$$;

create or replace function tidemark._converge_fragments(
    p_dimension_name text
)
returns json
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The fragments of tidemark._statement_fragments, and those that only tidemark._converge_statement needs: in which order the
-- changes of a dimension are folded, and the columns whose value a version does not have from its own change alone.
-- Those are untracked columns (the last value counts) and tracked ones that a batch came without (the first value counts).
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
    'captured_then', replace(b.f ->> 'captured', 'c.captured_at', 'h.captured_at'),
    'absorbed_then', replace(b.f ->> 'captured', 'c.captured_at', 'a.captured_at'),
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
