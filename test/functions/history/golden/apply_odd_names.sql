-- Makes history of a batch of odd_names in one pass. It holds for the usual case: a batch captured after all that is loaded, with
-- every column. Each key is folded from its last version; most keys have one change in a batch, and only the others are sorted. Of those
-- that a transaction made in the log, which have one capture time, the last counts, and supersedes the others.
-- p_changes are changes of p_batch, p_lines their lines in it (null: 1, 2, 3, ...), p_missing the columns that any batch came without,
-- p_in_order_since the earliest capture time that comes after all that is loaded. Nothing is written, and no row returned, where a change
-- was captured before it, or meets a version that lacks one of the missing columns: that batch is for converge_odd_names.
-- Names that begin with __ are Tidemark's own. The caller holds the lock and asks the ledger, so that repeating is safe.
-- Written by tidemark.compile_dimension: change the mapping or the history, and compile it again, never this.
#variable_conflict use_column
declare
    __now timestamp := transaction_timestamp() at time zone 'UTC';
    __stated text := p_batch.metadata ->> 'extracted_at';
begin
    if cardinality(apply_odd_names.p_missing) > 0 and exists (
        select
        from (
            select c."Order Id", c.h from rows from (json_to_recordset(p_changes) as ("Order Id" bigint, c text)) as c ("Order Id",
                h)
        ) as c
        cross join lateral (
            select h.batch_id::text as __batch_id
            from public."History of lines" as h
            where h."Order Id" = c."Order Id" and h.h = c.h
            order by h.valid_from desc
            limit 1
        ) as v
        cross join lateral (
            select b.columns
            from tidemark.batches as b
            where b.dimension_name = 'odd_names' and b.batch_id = v.__batch_id
            offset 0
        ) as b
        where not b.columns @> apply_odd_names.p_missing
    ) then
        return;
    end if;

    return query
    with change as materialized (
        select
            coalesce(apply_odd_names.p_lines[c.__line], c.__line::integer) as __line,
            c.__operation, coalesce(c.__effective, c.__extracted_at::timestamptz, p_batch.extracted_at) as __effective,
            case
                when c.__extracted_at is distinct from __stated then coalesce(c.__extracted_at::timestamptz, p_batch.extracted_at)
                else p_batch.extracted_at
            end as __captured_at,
            c.__extracted_at is distinct from __stated and c.__extracted_at not like '____-__-__%' as __is_captured_oddly,
            not (c.p_lines is not distinct from c.p_lines::numeric(10,2)) as __is_rounded,
            c."Order Id", c.h, c.p_lines::numeric(10,2) as p_lines, c."{history}",
            (c._line at time zone 'UTC') as _line, c.c::json as c, c.inserted_versions,
            c."a name that is as long as the names of PostgreSQL may be, no le"
        from rows from (json_to_recordset(p_changes) as (
            "Order Id" bigint, c text, p_changes numeric, "say ""hi""" text, _line timestamptz, "json" text,
            moved integer, "a name that is as long as the names of PostgreSQL may be, no le" text,
            operation_type text, cdc_timestamp timestamptz, extracted_at text
        )) with ordinality as c (
            "Order Id", h, p_lines, "{history}", _line, c, inserted_versions,
            "a name that is as long as the names of PostgreSQL may be, no le",
            __operation, __effective, __extracted_at, __line
        )
    ),
    repeated as materialized (
        select c."Order Id", c.h, true as __is_repeated
        from change as c
        group by c."Order Id", c.h
        having count(*) > 1
    ),
    -- No row where a change was captured before what is loaded: then nothing is written.
    taken as materialized (
        select count(*) as __change_count, min(c.__captured_at) as __least_captured_at, max(c.__captured_at) as __greatest_captured_at,
            min(c.__line) filter (
                where c.__operation is null or c.__operation not in ('INSERT', 'UPDATE', 'DELETE')
                    or c.__is_captured_oddly or c.__captured_at < '0001-01-01 00:00:00+00'
                    or c.__is_rounded
                    or c."Order Id" is null or c.h is null
                    or (c.__operation <> 'DELETE' and (not coalesce(((p_lines > (0)::numeric) AND ("{history}" <> '{keys}'::text)), true)))
            ) as __first_bad_line
        from change as c
        having coalesce(min(c.__captured_at) >= apply_odd_names.p_in_order_since, true)
    ),
    superseded as materialized (
        select c.__line, true as __is_superseded
        from (
            select c.__line, lead(c.__captured_at) over by_key = c.__captured_at as __is_followed_at_once
            from change as c
            join repeated as r using ("Order Id", h)
            where p_batch.is_logged and exists (select from taken)
            window by_key as (partition by c."Order Id", c.h order by c.__captured_at, c.__line)
        ) as c
        where c.__is_followed_at_once
    ),
    in_order as (
        select false as __is_repeated, 1::bigint as __number, null::text as __operation_before, null::boolean as __equals_before,
            c.__line, c.__operation, c.__effective, c.__captured_at, c."Order Id", c.h, c.p_lines, c."{history}",
                c._line, c.c, c.inserted_versions,
                c."a name that is as long as the names of PostgreSQL may be, no le"
        from change as c
        left join repeated as r using ("Order Id", h)
        where r.__is_repeated is null
        union all
        select true, row_number() over by_key, lag(c.__operation) over by_key,
            row(c.p_lines, c."{history}" collate "C", c._line, c.c::text collate "C") = lag(row(c.p_lines,
                c."{history}" collate "C", c._line, c.c::text collate "C")) over by_key,
            c.__line, c.__operation, c.__effective, c.__captured_at, c."Order Id", c.h, c.p_lines, c."{history}",
                c._line, c.c, c.inserted_versions,
                c."a name that is as long as the names of PostgreSQL may be, no le"
        from change as c
        join repeated as r using ("Order Id", h)
        left join superseded as s using (__line)
        where s.__is_superseded is null
        window by_key as (partition by c."Order Id", c.h order by c.__captured_at, c.__line)
    ),
    beside_last_version as (
        select
            case c.__number when 1 then v.__is_current is true else c.__operation_before <> 'DELETE' end as __in_force,
            case c.__number when 1 then v.__is_equal else c.__equals_before end as __is_equal,
            v.__last_time,
            v.__surrogate_key, v.__stored_inserted_versions, v.__stored__8,
            c.*
        from in_order as c
        left join lateral (
            select coalesce(h.valid_to, h.valid_from) as __last_time, h.is_current as __is_current,
                h.surrogate_key as __surrogate_key, h.inserted_versions as __stored_inserted_versions,
                    h."a name that is as long as the names of PostgreSQL may be, no le" as __stored__8,
                c.p_lines is not distinct from h.p_lines
                and c."{history}" collate "C" is not distinct from h."{history}" collate "C"
                and c._line is not distinct from h._line
                and c.c::text collate "C" is not distinct from h.c::text collate "C" as __is_equal
            from public."History of lines" as h
            where c.__number = 1 and h."Order Id" = c."Order Id" and h.h = c.h
            order by h.valid_from desc
            limit 1
        ) as v on true
        where exists (select from taken)
    ),
    judged as materialized (
        select case c.__operation when 'DELETE' then not c.__in_force else c.__in_force and c.__is_equal end as __is_absorbed,
            c.*
        from beside_last_version as c
    ),
    shown_repeated as materialized (
        select c.*,
            first_value(c.__last_time) over by_key as __stored_time,
            last_value(c.inserted_versions) over by_version as __shown_inserted_versions,
            last_value(c."a name that is as long as the names of PostgreSQL may be, no le") over by_version as __shown__8
        from (
            select c.*, count(*) filter (where not c.__is_absorbed) over by_key as __version_number
            from judged as c
            where c.__is_repeated
            window by_key as (partition by c."Order Id", c.h order by c.__number)
        ) as c
        window
            by_key as (partition by c."Order Id", c.h order by c.__number),
            by_version as (
                partition by c."Order Id", c.h, c.__version_number order by c.__number
                rows between unbounded preceding and unbounded following
            )
    ),
    folded_repeated as materialized (
        select c.*,
            row_number() over by_key = 1 as __follows_stored, lead(c.__takes_effect) over by_key as __ends
        from (
            select c.*, tidemark.fold_time(c.__effective, c.__captured_at, c.__in_force, c.__stored_time)
                over (partition by c."Order Id", c.h order by c.__number) as __takes_effect
            from shown_repeated as c
            where not c.__is_absorbed
        ) as c
        window by_key as (partition by c."Order Id", c.h order by c.__number)
    ),
    shown as not materialized (
        select c.*, 0 as __version_number,
            c.__last_time as __stored_time, c.inserted_versions as __shown_inserted_versions,
            c."a name that is as long as the names of PostgreSQL may be, no le" as __shown__8
        from judged as c
        where not c.__is_repeated
        union all
        select c.* from shown_repeated as c
    ),
    folded as not materialized (
        select c.*, tidemark._takes_effect(c.__effective, c.__captured_at, c.__in_force, c.__stored_time) as __takes_effect,
            true as __follows_stored, null::timestamptz as __ends
        from shown as c
        where not c.__is_repeated and not c.__is_absorbed
        union all
        select c.* from folded_repeated as c
    ),
    overwritten as (
        select c.* from shown as c where c.__number = 1 and c.__is_absorbed and c.__in_force and (c.__shown_inserted_versions::text collate "C" is distinct from c.__stored_inserted_versions::text
        or c.__shown__8::text collate "C" is distinct from c.__stored__8::text)
    ),
    ended as (
        select *
        from (select c."Order Id", c.h, c.__takes_effect from folded as c where c.__follows_stored and c.__in_force) as e
        full join (select c."Order Id", c.h, true as __is_overwritten, c.__shown_inserted_versions, c.__shown__8 from overwritten as c) as o using ("Order Id",
        h)
    ),
    closed as (
        update public."History of lines" as h
        set valid_to = c.__takes_effect, is_current = c.__takes_effect is null,
            inserted_versions = case when c.__is_overwritten then c.__shown_inserted_versions else h.inserted_versions end,
            "a name that is as long as the names of PostgreSQL may be, no le" = case when c.__is_overwritten then c.__shown__8 else h."a name that is as long as the names of PostgreSQL may be, no le" end,
            updated_at = __now
        from ended as c
        where h.is_current and h."Order Id" = c."Order Id" and h.h = c.h
        returning c.__takes_effect
    ),
    opened as (
        insert into public."History of lines" (
            "Order Id", h, p_lines, "{history}", _line, c, inserted_versions,
            "a name that is as long as the names of PostgreSQL may be, no le",
            valid_from, valid_to, is_current, cdc_operation, cdc_timestamp,
            batch_id, change_line, captured_at, created_at, updated_at
        )
        select
            c."Order Id", c.h, c.p_lines, c."{history}", c._line, c.c, c.__shown_inserted_versions, c.__shown__8,
            c.__takes_effect, c.__ends, c.__ends is null,
            case when c.__in_force then 'UPDATE' else 'INSERT' end, c.__effective,
            p_batch.batch_id, c.__line, c.__captured_at,
            __now, __now
        from folded as c
        -- The insert waits for the update, or the unique index on the current version would meet the old row first.
        where c.__operation <> 'DELETE' and (select count(*) from closed) >= 0
        order by c.__captured_at, c.__line
        returning surrogate_key as __surrogate_key, change_line as __line, is_current as __is_current
    ),
    kept as (
        insert into tidemark.first_values (dimension_name, surrogate_key, values_before)
        select 'odd_names', c.__surrogate_key, (select row_to_json(r.*) from (select c.inserted_versions as moved,
        c."a name that is as long as the names of PostgreSQL may be, no le"::text as "a name that is as long as the names of PostgreSQL may be, no le") as r)
        from (
            select c.__surrogate_key, c.__stored_inserted_versions as inserted_versions,
            c.__stored__8 as "a name that is as long as the names of PostgreSQL may be, no le" from overwritten as c
            union all
            select o.__surrogate_key, c.inserted_versions,
            c."a name that is as long as the names of PostgreSQL may be, no le"
            from opened as o
            join folded as c using (__line)
            where c.__shown_inserted_versions::text collate "C" is distinct from c.inserted_versions::text
            or c.__shown__8::text collate "C" is distinct from c."a name that is as long as the names of PostgreSQL may be, no le"::text
        ) as c
        on conflict do nothing
    ),
    absorbed as (
        insert into tidemark.absorbed_changes (
            dimension_name, shard, batch_id, change_line, business_key,
            cdc_operation, cdc_timestamp, captured_at, reason, closed_at, change
        )
        select 'odd_names', p_batch.shard, p_batch.batch_id, c.__line, json_build_object('Order Id', c."Order Id",
            'h', c.h)::text,
            c.__operation, c.__effective, c.__captured_at, c.__reason, c.__closed_at,
            (select row_to_json(r.*) from (
                select c."Order Id", c.h::text as c, c.p_lines as p_changes, c."{history}"::text as "say ""hi""",
                    c._line, c.c::text as "json", c.inserted_versions as moved,
                    c."a name that is as long as the names of PostgreSQL may be, no le"::text as "a name that is as long as the names of PostgreSQL may be, no le",
                    c.__operation as operation_type, c.__effective as cdc_timestamp, c.__captured_at as extracted_at
            ) as r)
        from (
            select c.__line, c.__operation, c.__effective, c.__captured_at, null::timestamptz as __closed_at,
                case c.__operation when 'DELETE' then 'nothing to delete' else 'unchanged' end as __reason,
                c."Order Id", c.h, c.p_lines, c."{history}", c._line, c.c, c.inserted_versions,
                c."a name that is as long as the names of PostgreSQL may be, no le"
            from shown as c
            where c.__is_absorbed
            union all
            select c.__line, c.__operation, c.__effective, c.__captured_at, c.__takes_effect, 'delete',
                c."Order Id", c.h, c.p_lines, c."{history}", c._line, c.c, c.inserted_versions,
                c."a name that is as long as the names of PostgreSQL may be, no le"
            from folded as c
            where c.__operation = 'DELETE'
            union all
            select c.__line, c.__operation, c.__effective, c.__captured_at, null, 'superseded',
                c."Order Id", c.h, c.p_lines, c."{history}", c._line, c.c, c.inserted_versions,
                c."a name that is as long as the names of PostgreSQL may be, no le"
            from change as c
            join superseded as s using (__line)
        ) as c
        returning 1
    )
    select
        (select count(*) from opened) as inserted_versions,
        (select count(c.__takes_effect) from closed as c) + (select count(*) from opened as o where not o.__is_current)
            as closed_versions,
        (select count(*) from absorbed) as absorbed_changes,
        0::bigint as corrected_versions,
        0::bigint as late_changes,
        t.__change_count as change_count,
        t.__first_bad_line as first_bad_line,
        t.__least_captured_at as least_captured_at,
        t.__greatest_captured_at as greatest_captured_at
    from taken as t;
end;
