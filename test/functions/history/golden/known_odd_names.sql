-- The history of one key of odd_names, all its versions, as the warehouse knew it at p_known: the fold of the changes that it had applied by
-- then, wherever they are now: in the versions they opened, among the absorbed or the retracted. A change is known since its batch was
-- applied, unless tidemark.changes_known_later has it, and not while its batch is retracted.
-- A version has the columns as of then, valid_to and is_current too, and the surrogate_key under which the change opened a version last.
-- What else comes from no change (created_at, updated_at) is that of the version, where it stands today, else null.
-- What was captured before the newest version from before the last pruning (the anchor) was all known at every moment that can be asked
-- for, so that it stands as it is stored. Earlier moments are for the caller to refuse (tidemark._assert_known).
-- Names that begin with __ are Tidemark's own. Runs with the rights of its caller.
-- Written by tidemark.compile_dimension: change the mapping or the history, and compile it again, never this.
#variable_conflict use_column
begin
    -- Most keys have no change that became known later, and are told as they are stored.
    if not exists (
        select
        from (select known_odd_names."p_Order Id" as "Order Id", known_odd_names.p_h as h) as c
        cross join lateral (
            select h.batch_id::text as __batch_id, h.change_line as __line from public."History of lines" as h where h."Order Id" = c."Order Id"
                and h.h = c.h
            union all
            select a.batch_id, a.change_line
            from tidemark.absorbed_changes as a
            where a.dimension_name = 'odd_names' and a.business_key = json_build_object('Order Id', c."Order Id",
                'h', c.h)::text
        ) as k
        join tidemark.batches as b on b.dimension_name = 'odd_names' and b.batch_id = k.__batch_id
        left join tidemark.changes_known_later as n
            on n.dimension_name = 'odd_names' and n.shard = b.shard and n.batch_id = b.batch_id and n.change_line = k.__line
        where coalesce(n.known_at, b.applied_at) > known_odd_names.p_known or exists (
            select
            from tidemark.retractions as t
            where t.dimension_name = 'odd_names' and t.shard = b.shard and t.batch_id = b.batch_id
                and t.restored_at > known_odd_names.p_known
        )
        union all
        select
        from (select known_odd_names."p_Order Id" as "Order Id", known_odd_names.p_h as h) as c
        join tidemark.retracted_changes as r
            on r.dimension_name = 'odd_names' and r.business_key = json_build_object('Order Id', c."Order Id",
                'h', c.h)::text
    ) then
        return query select h.surrogate_key, h."Order Id", h.h, h.p_lines, h."{history}", h._line, h.c,
            h.inserted_versions, h."a name that is as long as the names of PostgreSQL may be, no le", h.valid_from,
            h.valid_to, h.is_current, h.cdc_operation, h.cdc_timestamp, h.batch_id, h.created_at, h.updated_at,
            h.captured_at, h.change_line from (select known_odd_names."p_Order Id" as "Order Id",
            known_odd_names.p_h as h) as c join public."History of lines" as h on h."Order Id" = c."Order Id"
            and h.h = c.h;
        return;
    end if;

    return query
    with anchored as materialized (
        select c.*, json_build_object('Order Id', c."Order Id", 'h', c.h)::text as __business_key, v.__anchor_from, v.__anchor_captured_at, m.__missing
        from (select known_odd_names."p_Order Id" as "Order Id", known_odd_names.p_h as h) as c
        cross join (
            select array_agg(m.source_column) as __missing
            from tidemark.dimension_columns as m
            where m.dimension_name = 'odd_names' and m.may_be_missing
        ) as m
        left join lateral (
            select h.valid_from as __anchor_from, h.captured_at as __anchor_captured_at
            from tidemark.dimensions as d
            join public."History of lines" as h on h.captured_at < d.pruned_before
            where d.dimension_name = 'odd_names' and h."Order Id" = c."Order Id" and h.h = c.h
            order by h.valid_from desc
            limit 1
        ) as v on true
    ),
    applied as (
        select
            c."Order Id", c.h, case when 'p_changes' = any (b.__lacks) then null else h.p_lines end as p_lines,
            case when 'say "hi"' = any (b.__lacks) then null else h."{history}" end as "{history}",
            case when '_line' = any (b.__lacks) then null else h._line end as _line,
            case when 'json' = any (b.__lacks) then null else h.c end as c,
            case when 'moved' = any (b.__lacks) then null when (f.values_before -> 'moved') is null then h.inserted_versions else o.inserted_versions end as inserted_versions,
            case when 'a name that is as long as the names of PostgreSQL may be, no le' = any (b.__lacks) then null when (f.values_before -> 'a name that is as long as the names of PostgreSQL may be, no le') is null then h."a name that is as long as the names of PostgreSQL may be, no le" else o."a name that is as long as the names of PostgreSQL may be, no le" end as "a name that is as long as the names of PostgreSQL may be, no le",
            'UPDATE' as __operation, h.cdc_timestamp as __effective, h.captured_at as __captured_at,
            b.sequence as __sequence, h.batch_id::text as __batch_id, b.shard as __shard, h.change_line::integer as __line, b.__lacks,
            b.is_logged as __is_logged, b.applied_at as __applied_at,
            c.__anchor_from as __anchor_from, h.valid_from as __stored_from, h.cdc_operation::text as __stored_operation,
            h.surrogate_key::bigint as __surrogate_key, h.__version
        from anchored as c
        cross join lateral (
            select h.*, h.*::public."History of lines" as __version
            from public."History of lines" as h
            where h."Order Id" = c."Order Id" and h.h = c.h and h.valid_from >= coalesce(c.__anchor_from, '-infinity')
            offset 0
        ) as h
        left join lateral (
            select b.sequence, b.shard, b.is_logged, b.applied_at,
                case when not b.columns @> c.__missing then tidemark._lacking(b.columns, c.__missing) end as __lacks
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
            case when not b.columns @> a.__missing then tidemark._lacking(b.columns, a.__missing) end,
            b.is_logged, b.applied_at,
            a.__anchor_from, null, null, a.surrogate_key, null
        from (
            select c.__anchor_from, c.__missing, a.shard, a.batch_id, a.change_line, a.cdc_operation, a.cdc_timestamp, a.captured_at,
                a.surrogate_key, a.change
            from anchored as c
            join tidemark.absorbed_changes as a
                on a.dimension_name = 'odd_names' and a.business_key = c.__business_key
                and a.captured_at >= coalesce(c.__anchor_captured_at, '-infinity')
            union all
            select c.__anchor_from, c.__missing, r.shard, r.batch_id, r.change_line, r.cdc_operation, r.cdc_timestamp, r.captured_at,
                r.surrogate_key, r.change
            from anchored as c
            join tidemark.retracted_changes as r
                on r.dimension_name = 'odd_names' and r.business_key = c.__business_key and r.rejected is null
                and r.captured_at >= coalesce(c.__anchor_captured_at, '-infinity')
        ) as a
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
    ),
    known as (
        select c.*
        from applied as c
        left join tidemark.changes_known_later as n
            on n.dimension_name = 'odd_names' and n.shard = c.__shard and n.batch_id = c.__batch_id and n.change_line = c.__line
        where coalesce(n.known_at, c.__applied_at, '-infinity') <= known_odd_names.p_known
            and not exists (
                select
                from tidemark.retractions as t
                where t.dimension_name = 'odd_names' and t.shard = c.__shard and t.batch_id = c.__batch_id
                    and t.retracted_at <= known_odd_names.p_known
                    and (t.restored_at > known_odd_names.p_known or t.restored_at is null)
            )
    ),
    in_order as (
        select c.*, row_number() over in_place as __place, coalesce(c.__stored_from = c.__anchor_from, false) as __is_anchor,
            coalesce(c.__is_logged and lead(case when c.__is_logged then c.__captured_at end) over in_place = c.__captured_at,
                false) as __is_superseded,
            c.__anchor_from is null or bool_or(c.__stored_from = c.__anchor_from) over in_place is true as __is_in_slice
        from known as c
        window in_place as (
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
                    when exists (
                        select
                        from anchored as a
                        join tidemark.shell_keys as s on s.dimension_name = 'odd_names' and s.business_key = a.__business_key
                    ) then c.__batch_id || ' ' || c.__line
                end,
                case when c.__lacks is not null then array['p_changes' <> all (c.__lacks),
                    'say "hi"' <> all (c.__lacks), '_line' <> all (c.__lacks), 'json' <> all (c.__lacks)] || true end,
                case when c.__is_anchor then c.__stored_from end
            )
                filter (where not c.__is_superseded) over (order by c.__place) as __state
        from in_slice as c
    ),
    judged as (
        select c.*, (c.__state).takes_effect as __takes_effect,
            case when c.__is_superseded then 'superseded' else (c.__state).verdict end as __verdict,
            count(*) filter (where not c.__is_superseded and (c.__state).verdict = 'opened') over (order by c.__place) as __version_number
        from folded as c
    ),
    shown as (
        select c.*,
            (last_value(c.__state) over by_version).content as __content,
            case when c.__verdict = 'opened' then c.__lacks end as __fills,
            tidemark.last_known(c.inserted_versions, c.__verdict in ('opened', 'unchanged') and ('moved' = any (c.__lacks)) is not true) over by_version as __shown_inserted_versions,
            tidemark.last_known(c."a name that is as long as the names of PostgreSQL may be, no le", c.__verdict in ('opened', 'unchanged') and ('a name that is as long as the names of PostgreSQL may be, no le' = any (c.__lacks)) is not true) over by_version as __shown__8,
            lead(c.__takes_effect) over (partition by c.__verdict in ('opened', 'delete') order by c.__place) as __ends,
            case when c.__is_anchor then c.__stored_operation when (c.__state).begins_life then 'INSERT' else 'UPDATE' end
                as __version_operation
        from judged as c
        window by_version as (
            partition by c.__version_number order by c.__place
            rows between unbounded preceding and unbounded following
        )
    )
    select
        c.__surrogate_key::bigint, c."Order Id"::bigint, c.h::text, c.p_lines::numeric(10,2), c."{history}"::text,
        c._line::timestamp without time zone, c.c::json, c.__shown_inserted_versions::integer, c.__shown__8::text,
        (c.__takes_effect)::timestamp with time zone, (c.__ends)::timestamp with time zone,
        (c.__ends is null)::boolean, c.__version_operation::text, (c.__effective)::timestamp with time zone,
        c.__batch_id::text, (c.__version).created_at, (c.__version).updated_at,
        c.__captured_at::timestamp with time zone, c.__line::integer
    from (
        select
            c."Order Id", c.h,
            case when 'p_changes' = any (c.__fills) then c.__content[1]::numeric(10,2) else c.p_lines end as p_lines,
            case when 'say "hi"' = any (c.__fills) then c.__content[2]::text else c."{history}" end as "{history}",
            case when '_line' = any (c.__fills) then c.__content[3]::timestamp without time zone else c._line end as _line,
            case when 'json' = any (c.__fills) then c.__content[4]::json else c.c end as c, c.inserted_versions,
            c."a name that is as long as the names of PostgreSQL may be, no le",
            c.__shown_inserted_versions, c.__shown__8,
            c.__takes_effect, c.__ends, c.__version_operation, c.__effective, c.__batch_id, c.__line, c.__captured_at, c.__surrogate_key, c.__version
        from shown as c
        where c.__verdict = 'opened'
    ) as c
    union all
    select
        h.surrogate_key, h."Order Id", h.h, h.p_lines, h."{history}", h._line, h.c, h.inserted_versions,
        h."a name that is as long as the names of PostgreSQL may be, no le", h.valid_from, h.valid_to,
        h.is_current, h.cdc_operation, h.cdc_timestamp, h.batch_id, h.created_at, h.updated_at, h.captured_at,
        h.change_line
    from anchored as c
    join public."History of lines" as h on h."Order Id" = c."Order Id" and h.h = c.h and h.valid_from < c.__anchor_from;
end;
