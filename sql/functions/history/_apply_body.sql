create or replace function tidemark._apply_body(
    p_lists jsonb
)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
-- Writes the body of tidemark.apply_<dimension>, which makes history of a batch in the usual case, from the mapping of the dimension;
-- tidemark.compile_dimension makes the function of it. {names} are what differs from dimension to dimension (tidemark._column_lists); lines
-- with {untracked} at their left are there for dimensions that have untracked columns, which show the values of the last change that was
-- absorbed into a version, while the values it had first are kept aside; lines with {no_untracked} are there for the others. Lines with
-- {events} are there where its events are published, lines with {parted} where the history has partitions: what they say of a change is
-- always so, and PostgreSQL takes it for rare. It reckons a look into every partition for each change, though it looks into one, and would
-- read a history through rather, for as long as the plan is kept. Lines with {whole} are there where it has none, and
-- with {numbered} where the key is one whole number: new keys mostly lie beyond all that there are, and are not looked up one by one; where
-- all of a batch do, each with one change that is no DELETE, nothing is folded. Flags stand first in a row: the further behind a column
-- stands, the longer it takes to read.
select tidemark._laid_out($text$
-- Makes history of a batch of {name} in one pass. It holds for the usual case: a batch captured after all that is loaded, with
-- every column. Each key is folded from its last version; most keys have one change in a batch, and only the others are sorted. Of those
-- that a transaction made in the log, which have one capture time, the last counts, and supersedes the others.
-- p_changes are changes of p_batch, p_lines their lines in it (null: 1, 2, 3, ...), p_missing the columns that any batch came without,
-- p_in_order_since the earliest capture time that comes after all that is loaded. Nothing is written, and no row returned, where a change
-- was captured before it, or meets a version that lacks one of the missing columns: that batch is for {converge}.
-- Names that begin with {own} are Tidemark's own. The caller holds the lock and asks the ledger, so that repeating is safe.
-- Written by tidemark.compile_dimension: change the mapping or the history, and compile it again, never this.
#variable_conflict use_column
declare
    _now timestamp := transaction_timestamp() at time zone 'UTC';
    _stated text := p_batch.metadata ->> 'extracted_at';
begin
    if cardinality({apply}.p_missing) > 0 and exists (
        select
        from (
            select {stored_keys} from rows from (json_to_recordset(p_changes) as ({read_keys_as})) as c ({keys})
        ) as c
        cross join lateral (
            select h.batch_id::text as _batch_id
            from {history} as h
            where {same_key: and}
            order by h.valid_from desc
            limit 1
        ) as v
        cross join lateral (
            select b.columns
            from tidemark.batches as b
            where b.dimension_name = {dimension} and b.batch_id = v._batch_id
            offset 0
        ) as b
        where not b.columns @> {apply}.p_missing
    ) then
        return;
    end if;

    return query
    with change as materialized (
        select
            coalesce({apply}.p_lines[c._line], c._line::integer) as _line,
            c._operation, coalesce(c._effective, {captures_read}) as _effective,
            case
                when c._extracted_at is distinct from _stated then coalesce(c._extracted_at::timestamptz, p_batch.extracted_at)
                else p_batch.extracted_at
            end as _captured_at,
            c._extracted_at is distinct from _stated and c._extracted_at not like '____-__-__%' as _is_captured_oddly,
            not ({rounded: and}) as _is_rounded,
            {stored_values}
        from rows from (json_to_recordset(p_changes) as (
            {read_as},
            operation_type text, cdc_timestamp timestamptz, extracted_at text
        )) with ordinality as c (
            {columns},
            _operation, _effective, _extracted_at, _line
        )
    ),
    repeated as materialized (
        select {key_values}, true as _is_repeated
        from change as c
        group by {key_values}
        having count(*) > 1
    ),
    -- No row where a change was captured before what is loaded: then nothing is written.
    taken as materialized (
        select count(*) as _change_count, min(c._captured_at) as _least_captured_at, max(c._captured_at) as _greatest_captured_at,
{whole}{numbered}            bool_and(c._operation <> 'DELETE') and not exists (select from repeated)
{whole}{numbered}                and (min({key_values}) <= (select max({stored_key_values}) from {history} as h)) is not true as _are_new,
            min(c._line) filter (
                where c._operation is null or c._operation not in ('INSERT', 'UPDATE', 'DELETE')
                    or c._is_captured_oddly or c._captured_at < '0001-01-01 00:00:00+00'
                    or c._is_rounded{with_rounded}
                    or {key_is_null: or}
                    or (c._operation <> 'DELETE' and ({cannot_stand: or}))
            ) as _first_bad_line
        from change as c
        having coalesce(min(c._captured_at) >= {apply}.p_in_order_since, true)
    ),
    superseded as materialized (
        select c._line, true as _is_superseded
        from (
            select c._line, lead(c._captured_at) over by_key = c._captured_at as _is_followed_at_once
            from change as c
            join repeated as r using ({keys})
            where p_batch.is_logged and exists (select from taken)
            window by_key as (partition by {key_values} order by c._captured_at, c._line)
        ) as c
        where c._is_followed_at_once
    ),
    in_order as (
        select false as _is_repeated, 1::bigint as _number, null::text as _operation_before, null::boolean as _equals_before,
            c._line, c._operation, c._effective, c._captured_at, {values}
        from change as c
        left join repeated as r using ({keys})
        where r._is_repeated is null
{whole}{numbered}            and not (select t._are_new from taken as t)
        union all
        select true, row_number() over by_key, lag(c._operation) over by_key,
            row({compared}) = lag(row({compared})) over by_key,
            c._line, c._operation, c._effective, c._captured_at, {values}
        from change as c
        join repeated as r using ({keys})
        left join superseded as s using (_line)
        where s._is_superseded is null
{whole}{numbered}            and not (select t._are_new from taken as t)
        window by_key as (partition by {key_values} order by c._captured_at, c._line)
    ),
    beside_last_version as (
        select
            case c._number when 1 then v._is_current is true else c._operation_before <> 'DELETE' end as _in_force,
            case c._number when 1 then v._is_equal else c._equals_before end as _is_equal,
            v._last_time,
            v._surrogate_key, {stored},
{no_untracked}{events}            v._surrogate_key,
            c.*
        from in_order as c
        left join lateral (
            select coalesce(h.valid_to, h.valid_from){at_utc} as _last_time, h.is_current as _is_current,
                h.surrogate_key as _surrogate_key, {read_stored},
{no_untracked}{events}                h.surrogate_key as _surrogate_key,
                {equals_stored: and} as _is_equal
            from {history} as h
            where c._number = 1 and {same_key: and}
{whole}{numbered}                and {key_values} <= (select max({stored_key_values}) from {history} as h)
            order by h.valid_from desc
            limit 1
        ) as v on true
        where exists (select from taken)
    ),
    judged as materialized (
        select case c._operation when 'DELETE' then not c._in_force else c._in_force and c._is_equal end as _is_absorbed,
            c.*
        from beside_last_version as c
    ),
    shown_repeated as materialized (
{no_untracked}        select c.*,
{no_untracked}{events}            first_value(c._surrogate_key) over (partition by {key_values} order by c._number) as _stored_key,
{no_untracked}            first_value(c._last_time) over (partition by {key_values} order by c._number) as _stored_time
{no_untracked}        from judged as c
{no_untracked}        where c._is_repeated
{untracked}        select c.*,
{untracked}{events}            first_value(c._surrogate_key) over by_key as _stored_key,
{untracked}            first_value(c._last_time) over by_key as _stored_time,
{untracked}            {last_in_version}
{untracked}        from (
{untracked}            select c.*, count(*) filter (where not c._is_absorbed) over by_key as _version_number
{untracked}            from judged as c
{untracked}            where c._is_repeated
{untracked}            window by_key as (partition by {key_values} order by c._number)
{untracked}        ) as c
{untracked}        window
{untracked}            by_key as (partition by {key_values} order by c._number),
{untracked}            by_version as (
{untracked}                partition by {key_values}, c._version_number order by c._number
{untracked}                rows between unbounded preceding and unbounded following
{untracked}            )
    ),
    folded_repeated as materialized (
        select c.*,
{events}            lag(c._line) over by_key as _line_before,
            row_number() over by_key = 1 as _follows_stored, lead(c._takes_effect) over by_key as _ends
        from (
            select c.*, tidemark.fold_time(c._effective, {captured}, c._in_force, c._stored_time)
                over (partition by {key_values} order by c._number) as _takes_effect
            from shown_repeated as c
            where not c._is_absorbed
        ) as c
        window by_key as (partition by {key_values} order by c._number)
    ),
    shown as not materialized (
{no_untracked}        select c.*,
{no_untracked}{events}            c._surrogate_key as _stored_key,
{no_untracked}            c._last_time as _stored_time
{untracked}        select c.*, 0 as _version_number,
{untracked}{events}            c._surrogate_key as _stored_key,
{untracked}            c._last_time as _stored_time, {shown_alone}
        from judged as c
        where not c._is_repeated
        union all
        select c.* from shown_repeated as c
    ),
    folded as not materialized (
        select c.*, tidemark._takes_effect(c._effective, {captured}, c._in_force, c._stored_time) as _takes_effect,
{events}            null::integer as _line_before,
            true as _follows_stored, null::timestamptz as _ends
        from shown as c
        where not c._is_repeated and not c._is_absorbed
        union all
        select c.* from folded_repeated as c
{whole}{numbered}        union all
{whole}{numbered}        -- All keys are beyond those that there are, and each comes once: nothing of them is stored.
{whole}{numbered}        select false, false, null, null,
{whole}{numbered}{no_untracked}{events}            null,
{whole}{numbered}{untracked}            null, {none_stored},
{whole}{numbered}            false, 1, null, null, c._line, c._operation, c._effective, c._captured_at, {values},
{whole}{numbered}{untracked}            0,
{whole}{numbered}{events}            null,
{whole}{numbered}{no_untracked}            null,
{whole}{numbered}{untracked}            null, {shown_alone},
{whole}{numbered}            tidemark._takes_effect(c._effective, {captured}, false, null),
{whole}{numbered}{events}            null,
{whole}{numbered}            true, null
{whole}{numbered}        from change as c
{whole}{numbered}        where (select t._are_new from taken as t)
    ),
{untracked}    overwritten as (
{untracked}        select c.* from shown as c where c._number = 1 and c._is_absorbed and c._in_force and ({overwrites_stored: or})
{untracked}    ),
{untracked}    ended as (
{untracked}        select *
{untracked}        from (select {key_values}, c._takes_effect from folded as c where c._follows_stored and c._in_force) as e
{untracked}        full join (select {key_values}, true as _is_overwritten, {shown} from overwritten as c) as o using ({keys})
{untracked}    ),
    closed as (
        update {history} as h
        set valid_to = c._takes_effect{at_utc}, is_current = c._takes_effect is null,
            {set_overwritten},
            updated_at = _now
{no_untracked}        from folded as c
{no_untracked}        where c._follows_stored and c._in_force and h.is_current and {same_key: and}
{untracked}        from ended as c
{untracked}        where h.is_current and {same_key: and}
{parted}            and num_nulls({key_values}) = 0 and num_nonnulls({key_values}) = {key_count}
        returning c._takes_effect
    ),
    opened as (
        insert into {history} (
            {identity},
            {columns},
            valid_from, valid_to, is_current, cdc_operation, cdc_timestamp,
            batch_id, change_line, captured_at, created_at, updated_at
        )
        select
            {next_identity},
            {shown_values},
            c._takes_effect{at_utc}, c._ends{at_utc}, c._ends is null,
            case when c._in_force then 'UPDATE' else 'INSERT' end, c._effective{at_utc},
            p_batch.batch_id, c._line, c._captured_at,
            _now, _now
        from folded as c
        -- The insert waits for the update, or the unique index on the current version would meet the old row first.
        where c._operation <> 'DELETE' and (select count(*) from closed) >= 0
        order by c._captured_at, c._line
        returning surrogate_key as _surrogate_key, change_line as _line, is_current as _is_current
    ),
{events}    event_group as materialized (
{events}        select nextval('tidemark.event_groups_group_id_seq') as _group_id
{events}    ),
{events}    noted as (
{events}        insert into tidemark.events (
{events}            group_id, place, kind, is_end, business_key, version_key, before_key, effective_at, change_line
{events}        )
{events}        select g._group_id, row_number() over (order by c._captured_at, c._line),
{events}            case when c._operation = 'DELETE' then 'deleted' when c._in_force then 'updated' else 'created' end,
{events}            c._operation = 'DELETE', json_build_object({printed_key})::text, o._surrogate_key,
{events}            case when c._in_force then coalesce(b._surrogate_key, c._stored_key) end, c._takes_effect, c._line
{events}        from folded as c
{events}        cross join event_group as g
{events}        left join opened as o on o._line = c._line
{events}        left join opened as b on b._line = c._line_before
{events}        returning group_id as _group_id
{events}    ),
{events}    noted_group as (
{events}        insert into tidemark.event_groups (group_id, dimension_name, batch_id, event_count)
{events}        select n._group_id, {dimension}, p_batch.batch_id, count(*) from noted as n group by n._group_id
{events}    ),
{untracked}    kept as (
{untracked}        insert into tidemark.first_values (dimension_name, surrogate_key, values_before)
{untracked}        select {dimension}, c._surrogate_key, (select row_to_json(r.*) from (select {printed_untracked}) as r)
{untracked}        from (
{untracked}            select c._surrogate_key, {stored_as_values} from overwritten as c
{untracked}            union all
{untracked}            select o._surrogate_key, {untracked_values}
{untracked}            from opened as o
{untracked}            join folded as c using (_line)
{untracked}            where {overwrites_own: or}
{untracked}        ) as c
{untracked}        on conflict do nothing
{untracked}    ),
    absorbed as (
        insert into tidemark.absorbed_changes (
            dimension_name, shard, batch_id, change_line, business_key,
            cdc_operation, cdc_timestamp, captured_at, reason, closed_at, change
        )
        select {dimension}, p_batch.shard, p_batch.batch_id, c._line, json_build_object({printed_key})::text,
            c._operation, c._effective, c._captured_at, c._reason, c._closed_at,
            (select row_to_json(r.*) from (
                select {printed},
                    c._operation as operation_type, c._effective as cdc_timestamp, c._captured_at as extracted_at
            ) as r)
        from (
            select c._line, c._operation, c._effective, c._captured_at, null::timestamptz as _closed_at,
                case c._operation when 'DELETE' then 'nothing to delete' else 'unchanged' end as _reason,
                {values}
            from shown as c
            where c._is_absorbed
            union all
            select c._line, c._operation, c._effective, c._captured_at, c._takes_effect, 'delete',
                {values}
            from folded as c
            where c._operation = 'DELETE'
            union all
            select c._line, c._operation, c._effective, c._captured_at, null, 'superseded',
                {values}
            from change as c
            join superseded as s using (_line)
        ) as c
        returning 1
    )
    select
        (select count(*) from opened) as inserted_versions,
        (select count(c._takes_effect) from closed as c) + (select count(*) from opened as o where not o._is_current)
            as closed_versions,
        (select count(*) from absorbed) as absorbed_changes,
        0::bigint as corrected_versions,
        0::bigint as late_changes,
        t._change_count as change_count,
        t._first_bad_line as first_bad_line,
        t._least_captured_at as least_captured_at,
        t._greatest_captured_at as greatest_captured_at
    from taken as t;
end;
$text$, p_lists);
$$;
