create or replace function tidemark._known_body(
    p_lists jsonb
)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
-- Writes the body of tidemark.known_<dimension>, which tells the history of one key as it was known at a moment, from the mapping of the
-- dimension; tidemark.compile_dimension makes the function of it. {names} are what differs from dimension to dimension
-- (tidemark._column_lists). Lines with a {name} at their left are there for some dimensions only, as in tidemark._converge_body, whose fold
-- this is, over the changes that were known by then.
select tidemark._laid_out($text$
-- The history of one key of {name}, all its versions, as the warehouse knew it at p_known: the fold of the changes that it had applied by
-- then, wherever they are now: in the versions they opened, among the absorbed or the retracted. A change is known since its batch was
-- applied, unless tidemark.changes_known_later has it, and not while its batch is retracted.
-- A version has the columns as of then, valid_to and is_current too, and the surrogate_key under which the change opened a version last.
-- What else comes from no change (created_at, updated_at) is that of the version, where it stands today, else null.
-- What was captured before the newest version from before the last pruning (the anchor) was all known at every moment that can be asked
-- for, so that it stands as it is stored. Earlier moments are for the caller to refuse (tidemark._assert_known).
-- Names that begin with {own} are Tidemark's own. Runs with the rights of its caller.
-- Written by tidemark.compile_dimension: change the mapping or the history, and compile it again, never this.
#variable_conflict use_column
begin
    -- Most keys have no change that became known later, and are told as they are stored.
    if not exists (
        select
        from (select {key_arguments}) as c
        cross join lateral (
            select h.batch_id::text as _batch_id, h.change_line as _line from {versions} as h where {same_key: and}
            union all
            select a.batch_id, a.change_line
            from tidemark.absorbed_changes as a
            where a.dimension_name = {dimension} and a.business_key = json_build_object({printed_key})::text
        ) as k
        join tidemark.batches as b on b.dimension_name = {dimension} and b.batch_id = k._batch_id
        left join tidemark.changes_known_later as n
            on n.dimension_name = {dimension} and n.shard = b.shard and n.batch_id = b.batch_id and n.change_line = k._line
        where coalesce(n.known_at, b.applied_at) > {known_function}.p_known or exists (
            select
            from tidemark.retractions as t
            where t.dimension_name = {dimension} and t.shard = b.shard and t.batch_id = b.batch_id
                and t.restored_at > {known_function}.p_known
        )
        union all
        select
        from (select {key_arguments}) as c
        join tidemark.retracted_changes as r
            on r.dimension_name = {dimension} and r.business_key = json_build_object({printed_key})::text
    ) then
        return query select {stored_row} from (select {key_arguments}) as c join {versions} as h on {same_key: and};
        return;
    end if;

    return query
    with anchored as materialized (
        select c.*, json_build_object({printed_key})::text as _business_key, v._anchor_from, v._anchor_captured_at, m._missing
        from (select {key_arguments}) as c
        cross join (
            select array_agg(m.source_column) as _missing
            from tidemark.dimension_columns as m
            where m.dimension_name = {dimension} and m.may_be_missing
        ) as m
        left join lateral (
            select h.valid_from as _anchor_from, h.captured_at as _anchor_captured_at
            from tidemark.dimensions as d
            join {versions} as h on h.captured_at < d.pruned_before
            where d.dimension_name = {dimension} and {same_key: and}
            order by h.valid_from desc
            limit 1
        ) as v on true
    ),
    applied as (
        select
            {version_values},
            'UPDATE' as _operation, h.cdc_timestamp{at_utc} as _effective, h.captured_at as _captured_at,
            b.sequence as _sequence, h.batch_id::text as _batch_id, b.shard as _shard, h.change_line::integer as _line, b._lacks,
            b.is_logged as _is_logged, b.applied_at as _applied_at,
            c._anchor_from{at_utc} as _anchor_from, h.valid_from{at_utc} as _stored_from, h.cdc_operation::text as _stored_operation,
            h.surrogate_key::bigint as _surrogate_key, h._version
        from anchored as c
        cross join lateral (
            select h.*, h.*::{history} as _version
            from {versions} as h
            where {same_key: and} and h.valid_from >= coalesce(c._anchor_from, '-infinity')
            offset 0
        ) as h
        left join lateral (
            select b.sequence, b.shard, b.is_logged, b.applied_at,
                case when not b.columns @> c._missing then tidemark._lacking(b.columns, c._missing) end as _lacks
            from tidemark.batches as b
            where b.dimension_name = {dimension} and b.batch_id = h.batch_id::text
            offset 0
        ) as b on true
{untracked}        left join tidemark.first_values as f on f.dimension_name = {dimension} and f.surrogate_key = h.surrogate_key
{untracked}        left join lateral (
{untracked}            select {stored_first_values}
{untracked}            from rows from (json_to_record(f.values_before) as ({read_untracked_as})) as c ({untracked_columns})
{untracked}        ) as o on true
        union all
        select
            {absorbed_values},
            a.cdc_operation, a.cdc_timestamp, a.captured_at,
            b.sequence, a.batch_id, a.shard, a.change_line,
            case when not b.columns @> a._missing then tidemark._lacking(b.columns, a._missing) end,
            b.is_logged, b.applied_at,
            a._anchor_from{at_utc}, null, null, a.surrogate_key, null
        from (
            select c._anchor_from, c._missing, a.shard, a.batch_id, a.change_line, a.cdc_operation, a.cdc_timestamp, a.captured_at,
                a.surrogate_key, a.change
            from anchored as c
            join tidemark.absorbed_changes as a
                on a.dimension_name = {dimension} and a.business_key = c._business_key
                and a.captured_at >= coalesce(c._anchor_captured_at, '-infinity')
            union all
            select c._anchor_from, c._missing, r.shard, r.batch_id, r.change_line, r.cdc_operation, r.cdc_timestamp, r.captured_at,
                r.surrogate_key, r.change
            from anchored as c
            join tidemark.retracted_changes as r
                on r.dimension_name = {dimension} and r.business_key = c._business_key and r.rejected is null
                and r.captured_at >= coalesce(c._anchor_captured_at, '-infinity')
        ) as a
        join tidemark.batches as b on b.dimension_name = {dimension} and b.shard = a.shard and b.batch_id = a.batch_id
        cross join lateral (
            select {stored_values}
            from rows from (json_to_record(a.change) as (
                {read_as}
            )) as c ({columns})
        ) as r
    ),
    known as (
        select c.*
        from applied as c
        left join tidemark.changes_known_later as n
            on n.dimension_name = {dimension} and n.shard = c._shard and n.batch_id = c._batch_id and n.change_line = c._line
        where coalesce(n.known_at, c._applied_at, '-infinity') <= {known_function}.p_known
            and not exists (
                select
                from tidemark.retractions as t
                where t.dimension_name = {dimension} and t.shard = c._shard and t.batch_id = c._batch_id
                    and t.retracted_at <= {known_function}.p_known
                    and (t.restored_at > {known_function}.p_known or t.restored_at is null)
            )
    ),
    in_order as (
        select c.*, row_number() over in_place as _place, coalesce(c._stored_from = c._anchor_from, false) as _is_anchor,
{by_capture}            coalesce(c._is_logged and lead(case when c._is_logged then c._captured_at end) over in_place = c._captured_at,
{by_capture}                false) as _is_superseded,
            c._anchor_from is null or bool_or(c._stored_from = c._anchor_from) over in_place is true as _is_in_slice
{by_capture}        from known as c
{by_time}        from (select c.*, {own_time} as _own_time from known as c) as c
        window in_place as (
{by_capture}            order by c._captured_at, c._sequence nulls last, c._batch_id collate "C", c._shard collate "C", c._line
{by_time}            order by c._own_time, c._captured_at, c._sequence nulls last, c._batch_id collate "C", c._shard collate "C", c._line
        )
    ),
    in_slice as (
{by_capture}        select c.*
{by_time}        select c.*, lead(c._own_time) over (order by c._place) is not distinct from c._own_time as _is_superseded
        from in_order as c
        where c._is_in_slice
    ),
    folded as (
        select c.*,
            tidemark.fold(
                c._operation, c._effective, {captured},
                array[{content}]::text[] || case
                    when exists (
                        select
                        from anchored as a
                        join tidemark.shell_keys as s on s.dimension_name = {dimension} and s.business_key = a._business_key
                    ) then c._batch_id || ' ' || c._line
                end,
                case when c._lacks is not null then array[{known}] || true end,
                case when c._is_anchor then c._stored_from end
            )
                filter (where not c._is_superseded) over (order by c._place) as _state
        from in_slice as c
    ),
    judged as (
        select c.*, (c._state).takes_effect as _takes_effect,
            case when c._is_superseded then 'superseded' else (c._state).verdict end as _verdict,
            count(*) filter (where not c._is_superseded and (c._state).verdict = 'opened') over (order by c._place) as _version_number
        from folded as c
    ),
    shown as (
        select c.*,
            (last_value(c._state) over by_version).content as _content,
            case when c._verdict = 'opened' then c._lacks end as _fills,
            {shown_in_version},
            lead(c._takes_effect) over (partition by c._verdict in ('opened', 'delete') order by c._place) as _ends,
            case when c._is_anchor then c._stored_operation when (c._state).begins_life then 'INSERT' else 'UPDATE' end
                as _version_operation
        from judged as c
        window by_version as (
            partition by c._version_number order by c._place
            rows between unbounded preceding and unbounded following
        )
    )
    select
        {known_row}
    from (
        select
            {settled_values},
            {shown},
            c._takes_effect, c._ends, c._version_operation, c._effective, c._batch_id, c._line, c._captured_at, c._surrogate_key, c._version
        from shown as c
        where c._verdict = 'opened'
    ) as c
    union all
    select
        {stored_row}
    from anchored as c
    join {versions} as h on {same_key: and} and h.valid_from < c._anchor_from;
end;
$text$, p_lists);
$$;
