-- Makes history of odd_names equal to the fold of all changes ever applied, those of this batch included, wherever it belongs: late,
-- out of order, rejected before, or without some columns. Only the slice of each key that the batch can alter is read: it begins with the
-- last version that no change of the batch can precede (the anchor), and holds every change since, those that were absorbed included.
-- Only what differs is written, and what is in the way moves first: versions that go, end earlier, or begin elsewhere (parked before all
-- time, where nothing can collide), then those that grow, then new ones, then the parked ones. A version that survives keeps its key, and
-- one that was absorbed and comes back has the key it had.
-- p_changes are changes of p_batch, p_lines their lines in it (null: 1, 2, 3, ...), p_missing the columns that any batch came without:
-- where a change lacks a column, it equals anything, and its version takes the first value that comes.
-- Of a batch that is retracted nothing is added: its changes say only which keys are to be folded anew, and from when
-- (tidemark._retract_changes, __restore_changes).
-- Of changes of a key that a transaction made in the log, which have one capture time, the last supersedes the others.
-- Names that begin with __ are Tidemark's own. The caller holds the lock and asks the ledger, so that repeating is safe.
-- Written by tidemark.compile_dimension: change the mapping or the history, and compile it again, never this.
#variable_conflict use_column
<<own>>
declare
    moved json;
begin
    with change as materialized (
        select
            coalesce(converge_odd_names.p_lines[c.__line], c.__line::integer) as __line,
            c.__operation, coalesce(c.__effective, c.__extracted_at::timestamptz, p_batch.extracted_at) as __effective,
            coalesce(c.__extracted_at::timestamptz, p_batch.extracted_at) as __captured_at,
            c.__extracted_at not like '____-__-__%' as __is_captured_oddly,
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
    affected as (
        select c.*, json_build_object('Order Id', c."Order Id", 'h', c.h)::text as __business_key
        from (
            select c."Order Id", c.h, case count(*) when 1 then min(c.__line) end as __only_line,
                min(c.__captured_at) as __earliest
            from change as c
            group by c."Order Id", c.h
        ) as c
    ),
    anchored as materialized (
        select c.*, v.__anchor_from, v.__anchor_captured_at, v.__anchor
        from affected as c
        left join lateral (
            select h.valid_from as __anchor_from, h.captured_at as __anchor_captured_at, h.*::public."History of lines" as __anchor
            from public."History of lines" as h
            where h."Order Id" = c."Order Id" and h.h = c.h and h.captured_at < c.__earliest
            order by h.valid_from desc
            limit 1
        ) as v on true
    ),
    -- Most late changes need no fold. They are alone of their key in the batch, differ from the version before and from the one after it,
    -- which begins where that ends (or there is none before, or after), no change in between was absorbed, and no column is missing. Such
    -- a change takes the rest of the time of the version before, and alters nothing else.
    split as materialized (
        select c."Order Id", c.h, c.p_lines, c."{history}", c._line, c.c, c.inserted_versions,
            c."a name that is as long as the names of PostgreSQL may be, no le", c.__operation, c.__effective, c.__captured_at, c.__line,
            k.__business_key, k.__anchor, v.__begins, t.__takes_effect, v.__ends
        from anchored as k
        join change as c on c.__line = k.__only_line
        left join lateral (
            select h.valid_from as __begins, h.valid_to as __ends, h.batch_id::text as __batch_id,
                c.p_lines is not distinct from h.p_lines
                and c."{history}" collate "C" is not distinct from h."{history}" collate "C"
                and c._line is not distinct from h._line
                and c.c::text collate "C" is not distinct from h.c::text collate "C" as __is_equal
            from (select (k.__anchor).*) as h
            where k.__anchor_from is not null
        ) as v on true
        left join lateral (
            select h.valid_from as __begins, h.captured_at as __captured_at, h.batch_id::text as __batch_id,
                c.p_lines is not distinct from h.p_lines
                and c."{history}" collate "C" is not distinct from h."{history}" collate "C"
                and c._line is not distinct from h._line
                and c.c::text collate "C" is not distinct from h.c::text collate "C" as __is_equal
            from public."History of lines" as h
            where h."Order Id" = c."Order Id" and h.h = c.h and h.valid_from > coalesce(k.__anchor_from, '-infinity')
            order by h.valid_from
            limit 1
        ) as n on true
        cross join lateral (
            select tidemark._takes_effect(c.__effective, c.__captured_at, v.__begins is not null, v.__begins) as __takes_effect
        ) as t
        where p_batch.retracted_at is null and c.__operation <> 'DELETE'
            and v.__ends is not distinct from n.__begins and v.__is_equal is not true and n.__is_equal is not true
            and coalesce(t.__takes_effect < n.__begins, true)
            and coalesce(c.__captured_at < n.__captured_at, true)
            and not exists (
                select
                from tidemark.absorbed_changes as a
                where a.dimension_name = 'odd_names' and a.business_key = k.__business_key
                    and a.captured_at >= coalesce(k.__anchor_captured_at, '-infinity')
                    and a.captured_at <= coalesce(n.__captured_at, 'infinity')
            )
            and (p_batch.columns @> converge_odd_names.p_missing) is not false
            and (cardinality(converge_odd_names.p_missing) = 0 or not exists (
                select
                from tidemark.batches as b
                where b.dimension_name = 'odd_names' and b.batch_id in (v.__batch_id, n.__batch_id)
                    and not b.columns @> converge_odd_names.p_missing
            ))
    ),
    unsplit as materialized (
        select k.*
        from anchored as k
        left join split as s on s.__line = k.__only_line
        where s.__line is null
    ),
    slice as (
        select
            c."Order Id", c.h, case when 'p_changes' = any (b.__lacks) then null else h.p_lines end as p_lines,
            case when 'say "hi"' = any (b.__lacks) then null else h."{history}" end as "{history}",
            case when '_line' = any (b.__lacks) then null else h._line end as _line,
            case when 'json' = any (b.__lacks) then null else h.c end as c,
            case when 'moved' = any (b.__lacks) then null when (f.values_before -> 'moved') is null then h.inserted_versions else o.inserted_versions end as inserted_versions,
            case when 'a name that is as long as the names of PostgreSQL may be, no le' = any (b.__lacks) then null when (f.values_before -> 'a name that is as long as the names of PostgreSQL may be, no le') is null then h."a name that is as long as the names of PostgreSQL may be, no le" else o."a name that is as long as the names of PostgreSQL may be, no le" end as "a name that is as long as the names of PostgreSQL may be, no le",
            'UPDATE' as __operation, h.cdc_timestamp as __effective, h.captured_at as __captured_at,
            b.sequence as __sequence, b.batch_id as __batch_id, b.shard as __shard, h.change_line::integer as __line, b.__lacks,
            b.is_logged as __is_logged,
            'version' as __origin, c.__business_key, c.__anchor_from as __anchor_from,
            h.surrogate_key::bigint as __surrogate_key, f.surrogate_key is not null as __has_first_values, h.__version,
            h.valid_from as __stored_from, h.valid_to as __stored_to,
            h.cdc_operation::text as __stored_operation,
            null as __stored_reason, null::timestamptz as __stored_closed_at
        from unsplit as c
        cross join lateral (
            select h.*, h.*::public."History of lines" as __version
            from public."History of lines" as h
            where h."Order Id" = c."Order Id" and h.h = c.h and h.valid_from >= coalesce(c.__anchor_from, '-infinity')
            offset 0
        ) as h
        left join lateral (
            select b.sequence, b.batch_id, b.shard, b.is_logged,
                case
                    when not b.columns @> converge_odd_names.p_missing then tidemark._lacking(b.columns, converge_odd_names.p_missing)
                end as __lacks
            from tidemark.batches as b
            where b.dimension_name = 'odd_names' and b.batch_id = h.batch_id::text
            offset 0
        ) as b on true
        left join tidemark.first_values as f on f.dimension_name = 'odd_names' and f.surrogate_key = h.surrogate_key
        left join lateral (
            select c.inserted_versions, c."a name that is as long as the names of PostgreSQL may be, no le"
            from rows from (json_to_record(f.values_before) as (moved integer,
            "a name that is as long as the names of PostgreSQL may be, no le" text)) as c (inserted_versions,
            "a name that is as long as the names of PostgreSQL may be, no le")
        ) as o on true
        union all
        select
            r."Order Id", r.h, r.p_lines, r."{history}", r._line, r.c, r.inserted_versions,
            r."a name that is as long as the names of PostgreSQL may be, no le",
            a.cdc_operation, a.cdc_timestamp, a.captured_at,
            b.sequence, a.batch_id, a.shard, a.change_line,
            case
                when not b.columns @> converge_odd_names.p_missing then tidemark._lacking(b.columns, converge_odd_names.p_missing)
            end,
            b.is_logged,
            'absorbed', c.__business_key, c.__anchor_from,
            a.surrogate_key, false, null, null, null, null, a.reason, a.closed_at
        from unsplit as c
        join tidemark.absorbed_changes as a
            on a.dimension_name = 'odd_names' and a.business_key = c.__business_key
            and a.captured_at >= coalesce(c.__anchor_captured_at, '-infinity')
        join tidemark.batches as b on b.dimension_name = 'odd_names' and b.shard = a.shard and b.batch_id = a.batch_id
        cross join lateral (
            select c."Order Id", c.h, c.p_lines::numeric(10,2) as p_lines, c."{history}",
                (c._line at time zone 'UTC') as _line, c.c::json as c, c.inserted_versions,
                c."a name that is as long as the names of PostgreSQL may be, no le"
            from rows from (json_to_record(a.change) as (
                "Order Id" bigint, c text, p_changes numeric, "say ""hi""" text, _line timestamptz, "json" text,
                moved integer, "a name that is as long as the names of PostgreSQL may be, no le" text
            )) as c ("Order Id", h, p_lines, "{history}", _line, c, inserted_versions,
                "a name that is as long as the names of PostgreSQL may be, no le")
        ) as r
        union all
        select
            c."Order Id", c.h, c.p_lines, c."{history}", c._line, c.c, c.inserted_versions,
            c."a name that is as long as the names of PostgreSQL may be, no le",
            c.__operation, c.__effective, c.__captured_at,
            p_batch.sequence, p_batch.batch_id, p_batch.shard, c.__line,
            case
                when not p_batch.columns @> converge_odd_names.p_missing then tidemark._lacking(p_batch.columns, converge_odd_names.p_missing)
            end,
            p_batch.is_logged,
            'new', k.__business_key, k.__anchor_from, null, false, null, null, null, null, null, null
        from change as c
        join unsplit as k using ("Order Id", h)
        where p_batch.retracted_at is null
    ),
    in_order as (
        select c.*, row_number() over by_key as __place, coalesce(c.__stored_from = c.__anchor_from, false) as __is_anchor,
            coalesce(c.__is_logged and lead(case when c.__is_logged then c.__captured_at end) over by_key = c.__captured_at, false)
                as __is_superseded,
            c.__anchor_from is null or bool_or(c.__stored_from = c.__anchor_from) over by_key is true as __is_in_slice,
            coalesce(bool_or(c.__origin <> 'new') over (by_key rows between 1 following and unbounded following), false)
                as __is_followed
        from slice as c
        window by_key as (
            partition by c."Order Id", c.h
            order by c.__captured_at, c.__sequence nulls last, c.__batch_id collate "C", c.__shard collate "C", c.__line
        )
    ),
    in_slice as (
        select c.*
        from in_order as c
        where c.__is_in_slice
    ),
    folded as (
        select c.*,
            tidemark.fold(
                c.__operation, c.__effective, c.__captured_at,
                array[c.p_lines::text collate "C", c."{history}"::text collate "C", c._line::text collate "C",
                    c.c::text collate "C"]::text[] || case
                    when c.__business_key in (select s.business_key from tidemark.shell_keys as s where s.dimension_name = 'odd_names')
                        then c.__batch_id || ' ' || c.__line
                end,
                case when c.__lacks is not null then array['p_changes' <> all (c.__lacks),
                    'say "hi"' <> all (c.__lacks), '_line' <> all (c.__lacks), 'json' <> all (c.__lacks)] || true end,
                case when c.__is_anchor then c.__stored_from end
            )
                filter (where not c.__is_superseded) over (partition by c."Order Id", c.h order by c.__place) as __state
        from in_slice as c
    ),
    judged as (
        select c.*, (c.__state).takes_effect as __takes_effect,
            case when c.__is_superseded then 'superseded' else (c.__state).verdict end as __verdict,
            count(*) filter (where not c.__is_superseded and (c.__state).verdict = 'opened')
                over (partition by c."Order Id", c.h order by c.__place) as __version_number
        from folded as c
    ),
    shown as (
        select c.*,
            (last_value(c.__state) over by_version).content as __content,
            case when c.__verdict = 'opened' then c.__lacks end as __fills,
            tidemark.last_known(c.inserted_versions, c.__verdict in ('opened', 'unchanged') and ('moved' = any (c.__lacks)) is not true) over by_version as __shown_inserted_versions,
            tidemark.last_known(c."a name that is as long as the names of PostgreSQL may be, no le", c.__verdict in ('opened', 'unchanged') and ('a name that is as long as the names of PostgreSQL may be, no le' = any (c.__lacks)) is not true) over by_version as __shown__8,
            lead(c.__takes_effect) over (partition by c."Order Id", c.h, c.__verdict in ('opened', 'delete') order by c.__place) as __ends,
            case when c.__is_anchor then c.__stored_operation when (c.__state).begins_life then 'INSERT' else 'UPDATE' end
                as __version_operation
        from judged as c
        window by_version as (
            partition by c."Order Id", c.h, c.__version_number order by c.__place
            rows between unbounded preceding and unbounded following
        )
    ),
    outcome as materialized (
        select
            c."Order Id", c.h,
            case when 'p_changes' = any (c.__fills) then c.__content[1]::numeric(10,2) else c.p_lines end as p_lines,
            case when 'say "hi"' = any (c.__fills) then c.__content[2]::text else c."{history}" end as "{history}",
            case when '_line' = any (c.__fills) then c.__content[3]::timestamp without time zone else c._line end as _line,
            case when 'json' = any (c.__fills) then c.__content[4]::json else c.c end as c, c.inserted_versions,
            c."a name that is as long as the names of PostgreSQL may be, no le",
            c.__shown_inserted_versions, c.__shown__8,
            c.__operation, c.__effective, c.__captured_at, c.__sequence, c.__batch_id, c.__shard, c.__line, c.__lacks,
            c.__origin, c.__business_key, c.__surrogate_key, c.__has_first_values, c.__version,
            c.__stored_from, c.__stored_to, c.__stored_operation, c.__stored_reason, c.__stored_closed_at,
            c.__verdict, c.__takes_effect, c.__ends, c.__version_operation, c.__is_followed
        from shown as c
        union all
        select
            c."Order Id", c.h, c.p_lines, c."{history}", c._line, c.c, c.inserted_versions,
            c."a name that is as long as the names of PostgreSQL may be, no le",
            c.inserted_versions, c."a name that is as long as the names of PostgreSQL may be, no le",
            c.__operation, c.__effective, c.__captured_at, p_batch.sequence, p_batch.batch_id, p_batch.shard, c.__line, null,
            'new', c.__business_key, null, false, null,
            null, null, null, null, null,
            'opened', c.__takes_effect, c.__ends, case when c.__begins is null then 'INSERT' else 'UPDATE' end, c.__ends is not null
        from split as c
        union all
        select
            h."Order Id", h.h, h.p_lines, h."{history}", h._line, h.c, h.inserted_versions,
            h."a name that is as long as the names of PostgreSQL may be, no le",
            h.inserted_versions, h."a name that is as long as the names of PostgreSQL may be, no le",
            'UPDATE', null, h.captured_at, null, null, null, null, null,
            'version', c.__business_key, h.surrogate_key, false, c.__anchor,
            c.__begins, c.__ends, h.cdc_operation, null, null,
            'opened', c.__begins, c.__takes_effect, h.cdc_operation, true
        from split as c
        cross join lateral (select (c.__anchor).*) as h
        where c.__begins is not null
    ),
    removed as (
        delete from public."History of lines" as h
        using outcome as c
        where c.__origin = 'version' and c.__verdict <> 'opened'
            and h."Order Id" = c."Order Id" and h.h = c.h and h.valid_from = c.__stored_from
        returning 1
    ),
    kept as materialized (
        select c.*, c.__takes_effect <> c.__stored_from as __is_moved,
            c.__takes_effect = c.__stored_from and coalesce(c.__ends < coalesce(c.__stored_to, 'infinity'), false) as __is_shortened,
            c.__ends is distinct from c.__stored_to or c.__version_operation <> c.__stored_operation
                or (c.__lacks is not null and row(c.p_lines, c."{history}", c._line, c.c)::text is distinct from row((c.__version).p_lines,
                    (c.__version)."{history}", (c.__version)._line, (c.__version).c)::text)
                or row(c.__shown_inserted_versions, c.__shown__8)::text is distinct from row((c.__version).inserted_versions,
                    (c.__version)."a name that is as long as the names of PostgreSQL may be, no le")::text
                as __is_changed,
            timestamptz '4713-01-01 00:00:00+00 BC' + c.__surrogate_key * interval '1 microsecond' as __parked
        from outcome as c
        where c.__origin = 'version' and c.__verdict = 'opened'
    ),
    vacated as (
        update public."History of lines" as h
        set valid_from = case when c.__is_moved then c.__parked else h.valid_from end,
            valid_to = case when c.__is_moved then c.__parked + interval '1 microsecond' else c.__ends end,
            p_lines = c.p_lines, "{history}" = c."{history}", _line = c._line, c = c.c,
            inserted_versions = c.__shown_inserted_versions,
            "a name that is as long as the names of PostgreSQL may be, no le" = c.__shown__8,
            is_current = false, cdc_operation = c.__version_operation, updated_at = transaction_timestamp() at time zone 'UTC'
        from kept as c
        where (c.__is_moved or c.__is_shortened) and h."Order Id" = c."Order Id" and h.h = c.h and h.valid_from = c.__stored_from
        returning 1
    ),
    settled as (
        update public."History of lines" as h
        set valid_to = c.__ends, is_current = c.__ends is null,
            p_lines = c.p_lines, "{history}" = c."{history}", _line = c._line, c = c.c,
            inserted_versions = c.__shown_inserted_versions,
            "a name that is as long as the names of PostgreSQL may be, no le" = c.__shown__8,
            cdc_operation = c.__version_operation, updated_at = transaction_timestamp() at time zone 'UTC'
        from kept as c
        where c.__is_changed and not c.__is_moved and not c.__is_shortened
            and h."Order Id" = c."Order Id" and h.h = c.h and h.valid_from = c.__stored_from
            and (select count(*) from removed) + (select count(*) from vacated) >= 0
        returning 1
    ),
    opened as (
        insert into public."History of lines" as h (
            "Order Id", h, p_lines, "{history}", _line, c, inserted_versions,
            "a name that is as long as the names of PostgreSQL may be, no le",
            valid_from, valid_to, is_current, cdc_operation, cdc_timestamp,
            batch_id, change_line, captured_at, created_at, updated_at
        )
        select
            c."Order Id", c.h, c.p_lines, c."{history}", c._line, c.c, c.__shown_inserted_versions, c.__shown__8,
            c.__takes_effect, c.__ends, c.__ends is null,
            c.__version_operation, c.__effective,
            c.__batch_id, c.__line, c.__captured_at,
            transaction_timestamp() at time zone 'UTC', transaction_timestamp() at time zone 'UTC'
        from outcome as c
        where c.__origin <> 'version' and c.__verdict = 'opened' and c.__surrogate_key is null
            and (select count(*) from removed) + (select count(*) from vacated) + (select count(*) from settled) >= 0
        order by c.__captured_at, c.__sequence, c.__batch_id, c.__line
        returning
            h.surrogate_key as __surrogate_key, h.is_current as __is_current, h.valid_from as __takes_effect,
            h."Order Id", h.h
    ),
    reopened as (
        insert into public."History of lines" as h (
            surrogate_key, "Order Id", h, p_lines, "{history}", _line, c, inserted_versions,
                "a name that is as long as the names of PostgreSQL may be, no le",
            valid_from, valid_to, is_current, cdc_operation, cdc_timestamp,
            batch_id, change_line, captured_at, created_at, updated_at
        )
        overriding system value
        select
            c.__surrogate_key, c."Order Id", c.h, c.p_lines, c."{history}", c._line, c.c,
                c.__shown_inserted_versions, c.__shown__8,
            c.__takes_effect, c.__ends, c.__ends is null,
            c.__version_operation, c.__effective,
            c.__batch_id, c.__line, c.__captured_at,
            transaction_timestamp() at time zone 'UTC', transaction_timestamp() at time zone 'UTC'
        from outcome as c
        where c.__origin = 'absorbed' and c.__verdict = 'opened' and c.__surrogate_key is not null
            and (select count(*) from removed) + (select count(*) from vacated) + (select count(*) from settled) >= 0
        returning h.is_current as __is_current
    ),
    forgotten as (
        delete from tidemark.first_values as f
        using outcome as c
        where f.dimension_name = 'odd_names' and f.surrogate_key = c.__surrogate_key and c.__has_first_values
            and (c.__verdict <> 'opened' or not (c.__shown_inserted_versions::text collate "C" is distinct from c.inserted_versions::text
            or c.__shown__8::text collate "C" is distinct from c."a name that is as long as the names of PostgreSQL may be, no le"::text))
    ),
    remembered as (
        insert into tidemark.first_values (dimension_name, surrogate_key, values_before)
        select 'odd_names', c.__new_key, (select row_to_json(r.*) from (select c.inserted_versions as moved,
        c."a name that is as long as the names of PostgreSQL may be, no le"::text as "a name that is as long as the names of PostgreSQL may be, no le") as r)
        from (
            select c.*, coalesce(c.__surrogate_key, o.__surrogate_key) as __new_key
            from outcome as c
            left join opened as o using ("Order Id", h, __takes_effect)
            where c.__verdict = 'opened' and not c.__has_first_values and (c.__shown_inserted_versions::text collate "C" is distinct from c.inserted_versions::text
            or c.__shown__8::text collate "C" is distinct from c."a name that is as long as the names of PostgreSQL may be, no le"::text)
        ) as c
    ),
    -- That they had some is still known of the time before.
    without_versions as (
        insert into tidemark.former_keys (dimension_name, business_key)
        select distinct 'odd_names', c.__business_key
        from outcome as c
        where c.__origin = 'version' and c.__verdict <> 'opened'
            and not exists (select from outcome as o where o.__business_key = c.__business_key and o.__verdict = 'opened')
        on conflict do nothing
    ),
    woken as (
        delete from tidemark.absorbed_changes as a
        using outcome as c
        where c.__origin = 'absorbed' and c.__verdict = 'opened'
            and a.dimension_name = 'odd_names' and a.shard = c.__shard and a.batch_id = c.__batch_id and a.change_line = c.__line
    ),
    judged_again as (
        update tidemark.absorbed_changes as a
        set reason = c.__verdict, closed_at = case c.__verdict when 'delete' then c.__takes_effect end
        from outcome as c
        where c.__origin = 'absorbed' and c.__verdict <> 'opened'
            and (c.__verdict, case c.__verdict when 'delete' then c.__takes_effect end)
                is distinct from (c.__stored_reason, c.__stored_closed_at)
            and a.dimension_name = 'odd_names' and a.shard = c.__shard and a.batch_id = c.__batch_id and a.change_line = c.__line
    ),
    absorbed as (
        insert into tidemark.absorbed_changes (
            dimension_name, shard, batch_id, change_line, business_key,
            cdc_operation, cdc_timestamp, captured_at, reason, closed_at, surrogate_key, change
        )
        select 'odd_names', c.__shard, c.__batch_id, c.__line, c.__business_key,
            coalesce(c.__stored_operation, c.__operation), c.__effective, c.__captured_at,
            c.__verdict, case c.__verdict when 'delete' then c.__takes_effect end, c.__surrogate_key,
            (select row_to_json(r.*) from (
                select c."Order Id", c.h::text as c, c.p_lines as p_changes, c."{history}"::text as "say ""hi""",
                    c._line, c.c::text as "json", c.inserted_versions as moved,
                    c."a name that is as long as the names of PostgreSQL may be, no le"::text as "a name that is as long as the names of PostgreSQL may be, no le",
                    coalesce(c.__stored_operation, c.__operation) as operation_type, c.__effective as cdc_timestamp,
                    c.__captured_at as extracted_at
            ) as r)
        from outcome as c
        where c.__origin <> 'absorbed' and c.__verdict <> 'opened'
    )
    select
        (select count(*) from opened) + (select count(*) from reopened),
        (select count(*) from kept as c where c.__stored_to is null and c.__ends is not null)
            + (select count(*) from opened as o where not o.__is_current) + (select count(*) from reopened as o where not o.__is_current),
        (select count(*) from outcome as c where c.__origin = 'new' and c.__verdict <> 'opened'),
        (select count(*) from removed) + (
            select count(*)
            from kept as c
            where c.__is_moved or c.__ends is distinct from coalesce(c.__stored_to, c.__ends)
                or c.__version_operation <> c.__stored_operation
        ),
        (select count(*) from outcome as c where c.__origin = 'new' and c.__is_followed),
        count(*),
        min(c.__line) filter (
            where c.__operation is null or c.__operation not in ('INSERT', 'UPDATE', 'DELETE')
                or c.__is_captured_oddly or c.__captured_at < '0001-01-01 00:00:00+00'
                or c.__is_rounded
                or c."Order Id" is null or c.h is null
                or (c.__operation <> 'DELETE' and (not coalesce(((p_lines > (0)::numeric) AND ("{history}" <> '{keys}'::text)), true)))
        ),
        min(c.__captured_at),
        max(c.__captured_at),
        (
            select json_agg(row_to_json(m.*))
            from (select c."Order Id", c.h::text as h, c.__parked, c.__takes_effect, c.__ends from kept as c where c.__is_moved) as m
        )
    into
        inserted_versions, closed_versions, absorbed_changes, corrected_versions, late_changes,
        change_count, first_bad_line, least_captured_at, greatest_captured_at, own.moved
    from change as c;

    if own.moved is not null and first_bad_line is null then
        update public."History of lines" as h
        set valid_from = c.__takes_effect, valid_to = c.__ends, is_current = c.__ends is null
        from (
            select c."Order Id", c.h, c.__parked, c.__takes_effect, c.__ends
            from json_to_recordset(own.moved) as c (
                "Order Id" bigint, h text, __parked timestamptz, __takes_effect timestamptz, __ends timestamptz
            )
        ) as c
        where h."Order Id" = c."Order Id" and h.h = c.h and h.valid_from = c.__parked;
    end if;
    return next;
end;
