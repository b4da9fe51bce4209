-- The first half of tidemark._converge_statement: reads the changes, puts the affected slice of stored history beside them,
-- and folds. A slice begins with the last version that no change of the batch can precede (its anchor), or with the key's first
-- change, and holds every change since: versions with the values they had first, absorbed changes, and those of the batch.
create or replace function tidemark._slice_template()
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
select $template$
with change as materialized (
    select coalesce(($6::integer[])[c.change_line], c.change_line::integer) as change_line, c.cdc_operation, c.cdc_timestamp,
        {captured} as captured, $5::timestamptz as captured_at,
        coalesce(c.captured_at <> $5, false) as has_other_capture, not ({fits}) as would_be_rounded,
        {stored_values}
    from rows from (json_to_recordset($1) as (
        {read_as}, operation_type text, cdc_timestamp timestamptz, extracted_at timestamptz
    )) with ordinality as c ({values}, cdc_operation, cdc_timestamp, captured_at, change_line)
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
