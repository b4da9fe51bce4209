create or replace function tidemark._apply_statement(
    p_dimension_name text
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The statement that turns one batch into history in one pass, written for a dimension from its mapping.
-- It holds for a batch captured after all that is loaded: the fold, started from each key's last version.
-- Parameters: $1 the changes (json array), $2 shard, $3 batch_id, $4 transaction time, $5 extracted_at of the batch, which is the
-- capture time of changes that state none, $6 the line of each change, where they are not 1, 2, 3, ..., $7 the earliest capture time
-- that comes after all that is loaded (tidemark._in_order_since): where a change was captured before it, nothing is written.
-- Result: the counts of apply_batch, the number of changes read, the first line that cannot be applied, if any, and the earliest and
-- latest capture time.
-- Most keys have one change in a batch, which stands alone: only the others are sorted and folded one after the other.
-- The insert reads from the update's result, or the unique index on the current version would meet the old row first.
begin
    return tidemark._fill_template(
        $statement$
with change as materialized (
    select coalesce(($6::integer[])[c.change_line], c.change_line::integer) as change_line,
        c.cdc_operation, c.cdc_timestamp, coalesce(c.extracted_at::timestamptz, $5) as captured_at,
        coalesce(c.extracted_at not like '____-__-__%', false) as has_odd_capture, not ({fits}) as would_be_rounded,
        {stored_values}
    from rows from (json_to_recordset($1) as (
        {read_as}, operation_type text, cdc_timestamp timestamptz, extracted_at text
    )) with ordinality as c ({values}, cdc_operation, cdc_timestamp, extracted_at, change_line)
),
repeated as materialized (
    select {key_values}, true as is_repeated from change as c group by {key_values} having count(*) > 1
),
in_order as (
    select c.*, false as is_repeated, 1 as change_number, null as previous_operation, null::boolean as equals_previous
    from change as c
    left join repeated as r using ({key_names})
    where r.is_repeated is null
    union all
    select c.*, true, row_number() over by_key, lag(c.cdc_operation) over by_key,
        row({compare_change}) = lag(row({compare_change})) over by_key
    from change as c
    join repeated using ({key_names})
    window by_key as (partition by {key_values} order by c.captured_at, c.change_line)
),
beside_last_version as (
    select c.*, v.last_version_time,
        case c.change_number when 1 then v.is_current is true else c.previous_operation <> 'DELETE' end as in_force,
        case c.change_number when 1 then v.is_equal else c.equals_previous end as is_equal{stored_untracked}
    from in_order as c
    left join lateral (
        select coalesce(h.valid_to, h.valid_from){at_utc} as last_version_time, h.is_current, {equals_history} as is_equal{read_untracked}
        from {history} as h
        where c.change_number = 1 and {key_matches}
        order by h.valid_from desc
        limit 1
    ) as v on true
    where not exists (select from change as e where e.captured_at < $7)
),
judged as materialized (
    select c.*, {captured} as captured,
        case c.cdc_operation when 'DELETE' then not c.in_force else c.in_force and c.is_equal end as is_absorbed
    from beside_last_version as c
),
shown_repeated as materialized (
    select c.*{shown_untracked}, first_value(c.last_version_time) over (partition by {key_values} order by c.change_number) as stored_time
    from (select c.*{version_number} from judged as c where c.is_repeated) as c
),
folded_repeated as materialized (
    select c.*, row_number() over by_key = 1 as follows_stored_version, lead(c.takes_effect) over by_key as ends
    from (
        select c.*, tidemark.fold_time(c.cdc_timestamp, c.captured, c.in_force, c.stored_time)
            over (partition by {key_values} order by c.change_number) as takes_effect
        from shown_repeated as c
        where not c.is_absorbed
    ) as c
    window by_key as (partition by {key_values} order by c.change_number)
),
shown as not materialized (
    select c.*{shown_alone}, c.last_version_time as stored_time from judged as c where not c.is_repeated
    union all
    select * from shown_repeated
),
folded as not materialized (
    select c.*, tidemark._takes_effect(c.cdc_timestamp, c.captured, c.in_force, c.stored_time) as takes_effect,
        true as follows_stored_version, null::timestamptz as ends
    from shown as c
    where not c.is_repeated and not c.is_absorbed
    union all
    select * from folded_repeated
),
overwritten as (
    select c.* from shown as c where c.change_number = 1 and c.is_absorbed and c.in_force and {is_overwritten}
),
closed as (
    update {history} as h
    set valid_to = c.takes_effect{at_utc}, is_current = c.takes_effect is null, updated_at = $4 at time zone 'UTC'{set_untracked}
    from {ended} as c
    where h.is_current and {key_matches}
    returning c.takes_effect
),
opened as (
    insert into {history} (
        {history_columns}, valid_from, valid_to, is_current, cdc_operation,
        cdc_timestamp, batch_id, created_at, updated_at, captured_at, change_line
    )
    select {shown_values}, c.takes_effect{at_utc}, c.ends{at_utc}, c.ends is null,
        case when c.in_force then 'UPDATE' else 'INSERT' end,
        c.cdc_timestamp{at_utc}, $3, $4 at time zone 'UTC', $4 at time zone 'UTC', c.captured_at, c.change_line
    from folded as c
    where c.cdc_operation <> 'DELETE' and (select count(*) from closed) >= 0
    order by c.captured_at, c.change_line
    returning surrogate_key, change_line, is_current
),{keep_first_values}
absorbed as (
    insert into tidemark.absorbed_changes (
        dimension_name, shard, batch_id, change_line, business_key,
        cdc_operation, cdc_timestamp, captured_at, reason, closed_at, change
    )
    select {dimension}, $2, $3, l.change_line, json_build_object({key_pairs})::text,
        l.cdc_operation, l.cdc_timestamp, l.captured_at, l.reason, l.closed_at,
        (select row_to_json(r.*) from (
            select {printed}, l.cdc_operation as operation_type, l.cdc_timestamp, l.captured_at as extracted_at
        ) as r)
    from (
        select c.change_line, {values}, c.cdc_operation, c.cdc_timestamp, c.captured_at, null::timestamptz as closed_at,
            case c.cdc_operation when 'DELETE' then 'nothing to delete' else 'unchanged' end as reason
        from shown as c
        where c.is_absorbed
        union all
        select c.change_line, {values}, c.cdc_operation, c.cdc_timestamp, c.captured_at, c.takes_effect, 'delete'
        from folded as c
        where c.cdc_operation = 'DELETE'
    ) as l
    returning 1
)
select
    (select count(*) from opened) as inserted_versions,
    (select count(takes_effect) from closed) + (select count(*) from opened where not is_current) as closed_versions,
    (select count(*) from absorbed) as absorbed_changes,
    0::bigint as corrected_versions,
    0::bigint as late_changes,
    count(*) as change_count,
    min(c.change_line) filter (
        where c.cdc_operation is null or c.cdc_operation not in ('INSERT', 'UPDATE', 'DELETE')
            or c.cdc_timestamp is null or c.has_odd_capture or c.captured_at < '0001-01-01 00:00:00+00'
            or c.would_be_rounded or {key_is_null} or (c.cdc_operation <> 'DELETE' and {cannot_stand})
    ) as first_bad_line,
    min(c.captured_at) as least_captured_at,
    max(c.captured_at) as greatest_captured_at
from change as c
        $statement$,
        tidemark._untracked_fragments(p_dimension_name)
    );
end;
$$;

create or replace function tidemark._untracked_fragments(
    p_dimension_name text
)
returns json
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The fragments of tidemark._statement_fragments, and those by which tidemark._apply_statement overwrites untracked columns:
-- a version shows the values of the last change that was absorbed into it, and the values it had first are kept aside.
-- For a dimension that has none they are empty, and cost nothing.
declare
    v_fragments jsonb := tidemark._statement_fragments(p_dimension_name)::jsonb;
    v_parts jsonb;
begin
    select jsonb_build_object(
        'has_untracked', count(*) > 0,
        'read_untracked', ', h.surrogate_key'
            || string_agg(format(', h.%I as stored_%s', e.history_column, e.ordinal), '' order by e.ordinal),
        'stored_untracked', ', v.surrogate_key as stored_key' || string_agg(format(', v.stored_%s', e.ordinal), '' order by e.ordinal),
        'shown_untracked', string_agg(
            format(
                ', last_value(c.%s) over (partition by %s, c.version_number order by c.change_number'
                ' rows between unbounded preceding and unbounded following) as shown_%s',
                e.value_name, v_fragments ->> 'key_values', e.ordinal
            ), '' order by e.ordinal
        ),
        'shown_alone', ', 0 as version_number' || string_agg(format(', c.%s as shown_%s', e.value_name, e.ordinal), '' order by e.ordinal),
        'set_untracked', string_agg(
            format(', %1$I = case when c.is_overwritten then c.shown_%2$s else h.%1$I end', e.history_column, e.ordinal),
            '' order by e.ordinal
        ),
        'shown', string_agg(format('c.shown_%s', e.ordinal), ', ' order by e.ordinal),
        'shown_as_text', string_agg(format('c.shown_%s::text', e.ordinal), ', ' order by e.ordinal),
        'value_as_text', string_agg(format('c.%s::text', e.value_name), ', ' order by e.ordinal),
        'stored_as_text', string_agg(format('c.stored_%s::text', e.ordinal), ', ' order by e.ordinal),
        'stored_as_values', string_agg(format('c.stored_%s as %s', e.ordinal, e.value_name), ', ' order by e.ordinal),
        'untracked_values', string_agg(format('c.%s', e.value_name), ', ' order by e.ordinal),
        'print_untracked', string_agg(format('%s as %I', e.printed, e.source_column), ', ' order by e.ordinal)
    )
    into v_parts
    from tidemark._column_expressions(p_dimension_name) as e
    where e.column_role = 'untracked';

    if not (v_parts ->> 'has_untracked')::boolean then
        return (v_fragments || jsonb_build_object(
            'read_untracked', '', 'stored_untracked', '', 'version_number', '', 'shown_untracked', '', 'shown_alone', '',
            'is_overwritten', 'false', 'set_untracked', '',
            'ended', '(select c.* from folded as c where c.follows_stored_version and c.in_force)',
            'shown_values', v_fragments ->> 'values', 'keep_first_values', ''
        ))::json;
    end if;

    v_fragments := v_fragments || v_parts || jsonb_build_object(
        'is_overwritten', format('row(%s) is distinct from row(%s)', v_parts ->> 'shown_as_text', v_parts ->> 'stored_as_text'),
        'shown_values', (
            select string_agg(
                case when e.column_role = 'untracked' then format('c.shown_%s', e.ordinal) else format('c.%s', e.value_name) end,
                ', ' order by e.ordinal
            )
            from tidemark._column_expressions(p_dimension_name) as e
        )
    );
    return (v_fragments || jsonb_build_object(
        'version_number', tidemark._fill_template(
            ', count(*) filter (where not c.is_absorbed) over (partition by {key_values} order by c.change_number) as version_number',
            v_fragments::json
        ),
        'ended', tidemark._fill_template(
            $ended$(
        select *
        from (select {key_values}, c.takes_effect from folded as c where c.follows_stored_version and c.in_force) as e
        full join (select {key_values}, true as is_overwritten, {shown} from overwritten as c) as o using ({key_names})
    )$ended$,
            v_fragments::json
        ),
        'keep_first_values', tidemark._fill_template(
            $kept$
kept as (
    insert into tidemark.first_values (dimension_name, surrogate_key, values_before)
    select {dimension}, l.surrogate_key, (select row_to_json(r.*) from (select {print_untracked}) as r)
    from (
        select c.stored_key as surrogate_key, {stored_as_values} from overwritten as c
        union all
        select n.surrogate_key, {untracked_values}
        from opened as n
        join folded as c using (change_line)
        where row({shown_as_text}) is distinct from row({value_as_text})
    ) as l
    on conflict do nothing
),$kept$,
            v_fragments::json
        )
    ))::json;
end;
$$;
