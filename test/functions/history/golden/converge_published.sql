-- Makes history of published equal to the fold of all changes ever applied, those of this batch included, wherever it belongs: late,
-- out of order, rejected before, or without some columns. Only the slice of each key that the batch can alter is read: it begins with the
-- last version that no change of the batch can precede (the anchor), and holds every change since, those that were absorbed included.
-- Only what differs is written, and what is in the way moves first: versions that go, end earlier, or begin elsewhere (parked before all
-- time, where nothing can collide), then those that grow, then new ones, then the parked ones. A version that survives keeps its key, and
-- one that was absorbed and comes back has the key it had.
-- p_changes are changes of p_batch, p_lines their lines in it (null: 1, 2, 3, ...), p_missing the columns that any batch came without:
-- where a change lacks a column, it equals anything, and its version takes the first value that comes.
-- Of a batch that is retracted nothing is added: its changes say only which keys are to be folded anew, and from when
-- (tidemark._retract_changes, _restore_changes).
-- Of changes of a key that a transaction made in the log, which have one capture time, the last supersedes the others.
-- Names that begin with _ are Tidemark's own. The caller holds the lock and asks the ledger, so that repeating is safe.
-- Written by tidemark.compile_dimension: change the mapping or the history, and compile it again, never this.
#variable_conflict use_column
<<own>>
declare
    moved json;
begin
    with change as materialized (
        select
            coalesce(converge_published.p_lines[c._line], c._line::integer) as _line,
            c._operation, coalesce(c._effective, c._extracted_at::timestamptz, p_batch.extracted_at) as _effective,
            coalesce(c._extracted_at::timestamptz, p_batch.extracted_at) as _captured_at,
            c._extracted_at not like '____-__-__%' as _is_captured_oddly,
            c.id, c.label, c.seen
        from rows from (json_to_recordset(p_changes) as (
            id bigint, label text, seen integer,
            operation_type text, cdc_timestamp timestamptz, extracted_at text
        )) with ordinality as c (
            id, label, seen,
            _operation, _effective, _extracted_at, _line
        )
    ),
    affected as (
        select c.*, json_build_object('id', c.id)::text as _business_key
        from (
            select c.id, case count(*) when 1 then min(c._line) end as _only_line,
                min(c._captured_at) as _earliest
            from change as c
            group by c.id
        ) as c
    ),
    anchored as materialized (
        select c.*, v._anchor_from, v._anchor_captured_at, v._anchor
        from affected as c
        left join lateral (
            select h.valid_from as _anchor_from, h.captured_at as _anchor_captured_at, h.*::public.dim_published_history as _anchor
            from public.dim_published_history as h
            where h.id = c.id and h.captured_at < c._earliest
            order by h.valid_from desc
            limit 1
        ) as v on true
    ),
    -- Most late changes need no fold. They are alone of their key in the batch, differ from the version before and from the one after it,
    -- which begins where that ends (or there is none before, or after), no change in between was absorbed, and no column is missing. Such
    -- a change takes the rest of the time of the version before, and alters nothing else.
    split as materialized (
        select c.id, c.label, c.seen, c._operation, c._effective, c._captured_at, c._line,
            k._business_key, k._anchor, v._begins, t._takes_effect, v._ends
        from anchored as k
        join change as c on c._line = k._only_line
        left join lateral (
            select h.valid_from as _begins, h.valid_to as _ends, h.batch_id::text as _batch_id,
                c.label collate "C" is not distinct from h.label collate "C" as _is_equal
            from (select (k._anchor).*) as h
            where k._anchor_from is not null
        ) as v on true
        left join lateral (
            select h.valid_from as _begins, h.captured_at as _captured_at, h.batch_id::text as _batch_id,
                c.label collate "C" is not distinct from h.label collate "C" as _is_equal
            from public.dim_published_history as h
            where h.id = c.id and h.valid_from > coalesce(k._anchor_from, '-infinity')
            order by h.valid_from
            limit 1
        ) as n on true
        cross join lateral (
            select tidemark._takes_effect(c._effective, c._captured_at, v._begins is not null, v._begins) as _takes_effect
        ) as t
        where p_batch.retracted_at is null and c._operation <> 'DELETE'
            and v._ends is not distinct from n._begins and v._is_equal is not true and n._is_equal is not true
            and coalesce(t._takes_effect < n._begins, true)
            and coalesce(c._captured_at < n._captured_at, true)
            and not exists (
                select
                from tidemark.absorbed_changes as a
                where a.dimension_name = 'published' and a.business_key = k._business_key
                    and a.captured_at >= coalesce(k._anchor_captured_at, '-infinity')
                    and a.captured_at <= coalesce(n._captured_at, 'infinity')
            )
            and (p_batch.columns @> converge_published.p_missing) is not false
            and (cardinality(converge_published.p_missing) = 0 or not exists (
                select
                from tidemark.batches as b
                where b.dimension_name = 'published' and b.batch_id in (v._batch_id, n._batch_id)
                    and not b.columns @> converge_published.p_missing
            ))
    ),
    unsplit as materialized (
        select k.*
        from anchored as k
        left join split as s on s._line = k._only_line
        where s._line is null
    ),
    slice as (
        select
            c.id, case when 'label' = any (b._lacks) then null else h.label end as label,
            case when 'seen' = any (b._lacks) then null when (f.values_before -> 'seen') is null then h.seen else o.seen end as seen,
            'UPDATE' as _operation, h.cdc_timestamp as _effective, h.captured_at as _captured_at,
            b.sequence as _sequence, b.batch_id as _batch_id, b.shard as _shard, h.change_line::integer as _line, b._lacks,
            b.is_logged as _is_logged,
            'version' as _origin, c._business_key, c._anchor_from as _anchor_from,
            h.surrogate_key::bigint as _surrogate_key, f.surrogate_key is not null as _has_first_values, h._version,
            h.valid_from as _stored_from, h.valid_to as _stored_to,
            h.cdc_operation::text as _stored_operation,
            null as _stored_reason, null::timestamptz as _stored_closed_at
        from unsplit as c
        cross join lateral (
            select h.*, h.*::public.dim_published_history as _version
            from public.dim_published_history as h
            where h.id = c.id and h.valid_from >= coalesce(c._anchor_from, '-infinity')
            offset 0
        ) as h
        left join lateral (
            select b.sequence, b.batch_id, b.shard, b.is_logged,
                case
                    when not b.columns @> converge_published.p_missing then tidemark._lacking(b.columns, converge_published.p_missing)
                end as _lacks
            from tidemark.batches as b
            where b.dimension_name = 'published' and b.batch_id = h.batch_id::text
            offset 0
        ) as b on true
        left join tidemark.first_values as f on f.dimension_name = 'published' and f.surrogate_key = h.surrogate_key
        left join lateral (
            select c.seen
            from rows from (json_to_record(f.values_before) as (seen integer)) as c (seen)
        ) as o on true
        union all
        select
            r.id, r.label, r.seen,
            a.cdc_operation, a.cdc_timestamp, a.captured_at,
            b.sequence, a.batch_id, a.shard, a.change_line,
            case
                when not b.columns @> converge_published.p_missing then tidemark._lacking(b.columns, converge_published.p_missing)
            end,
            b.is_logged,
            'absorbed', c._business_key, c._anchor_from,
            a.surrogate_key, false, null, null, null, null, a.reason, a.closed_at
        from unsplit as c
        join tidemark.absorbed_changes as a
            on a.dimension_name = 'published' and a.business_key = c._business_key
            and a.captured_at >= coalesce(c._anchor_captured_at, '-infinity')
        join tidemark.batches as b on b.dimension_name = 'published' and b.shard = a.shard and b.batch_id = a.batch_id
        cross join lateral (
            select c.id, c.label, c.seen
            from rows from (json_to_record(a.change) as (
                id bigint, label text, seen integer
            )) as c (id, label, seen)
        ) as r
        union all
        select
            c.id, c.label, c.seen,
            c._operation, c._effective, c._captured_at,
            p_batch.sequence, p_batch.batch_id, p_batch.shard, c._line,
            case
                when not p_batch.columns @> converge_published.p_missing then tidemark._lacking(p_batch.columns, converge_published.p_missing)
            end,
            p_batch.is_logged,
            'new', k._business_key, k._anchor_from, null, false, null, null, null, null, null, null
        from change as c
        join unsplit as k using (id)
        where p_batch.retracted_at is null
    ),
    in_order as (
        select c.*, row_number() over by_key as _place, coalesce(c._stored_from = c._anchor_from, false) as _is_anchor,
            coalesce(c._is_logged and lead(case when c._is_logged then c._captured_at end) over by_key = c._captured_at, false)
                as _is_superseded,
            c._anchor_from is null or bool_or(c._stored_from = c._anchor_from) over by_key is true as _is_in_slice,
            coalesce(bool_or(c._origin <> 'new') over (by_key rows between 1 following and unbounded following), false)
                as _is_followed
        from slice as c
        window by_key as (
            partition by c.id
            order by c._captured_at, c._sequence nulls last, c._batch_id collate "C", c._shard collate "C", c._line
        )
    ),
    in_slice as (
        select c.*
        from in_order as c
        where c._is_in_slice
    ),
    folded as (
        select c.*,
            tidemark.fold(
                c._operation, c._effective, c._captured_at,
                array[c.label::text collate "C"]::text[] || case
                    when c._business_key in (select s.business_key from tidemark.shell_keys as s where s.dimension_name = 'published')
                        then c._batch_id || ' ' || c._line
                end,
                case when c._lacks is not null then array['label' <> all (c._lacks)] || true end,
                case when c._is_anchor then c._stored_from end
            )
                filter (where not c._is_superseded) over (partition by c.id order by c._place) as _state
        from in_slice as c
    ),
    judged as (
        select c.*, (c._state).takes_effect as _takes_effect,
            case when c._is_superseded then 'superseded' else (c._state).verdict end as _verdict,
            count(*) filter (where not c._is_superseded and (c._state).verdict = 'opened')
                over (partition by c.id order by c._place) as _version_number
        from folded as c
    ),
    shown as (
        select c.*,
            (last_value(c._state) over by_version).content as _content,
            case when c._verdict = 'opened' then c._lacks end as _fills,
            tidemark.last_known(c.seen, c._verdict in ('opened', 'unchanged') and ('seen' = any (c._lacks)) is not true) over by_version as _shown_seen,
            lead(c._takes_effect) over (partition by c.id, c._verdict in ('opened', 'delete') order by c._place) as _ends,
            case when c._is_anchor then c._stored_operation when (c._state).begins_life then 'INSERT' else 'UPDATE' end
                as _version_operation
        from judged as c
        window by_version as (
            partition by c.id, c._version_number order by c._place
            rows between unbounded preceding and unbounded following
        )
    ),
    outcome as materialized (
        select
            c.id, case when 'label' = any (c._fills) then c._content[1]::text else c.label end as label, c.seen,
            c._shown_seen,
            c._operation, c._effective, c._captured_at, c._sequence, c._batch_id, c._shard, c._line, c._lacks,
            c._origin, c._business_key, c._surrogate_key, c._has_first_values, c._version,
            c._stored_from, c._stored_to, c._stored_operation, c._stored_reason, c._stored_closed_at,
            c._verdict, c._takes_effect, c._ends, c._version_operation, c._is_followed
        from shown as c
        union all
        select
            c.id, c.label, c.seen,
            c.seen,
            c._operation, c._effective, c._captured_at, p_batch.sequence, p_batch.batch_id, p_batch.shard, c._line, null,
            'new', c._business_key, null, false, null,
            null, null, null, null, null,
            'opened', c._takes_effect, c._ends, case when c._begins is null then 'INSERT' else 'UPDATE' end, c._ends is not null
        from split as c
        union all
        select
            h.id, h.label, h.seen,
            h.seen,
            'UPDATE', null, h.captured_at, null, null, null, null, null,
            'version', c._business_key, h.surrogate_key, false, c._anchor,
            c._begins, c._ends, h.cdc_operation, null, null,
            'opened', c._begins, c._takes_effect, h.cdc_operation, true
        from split as c
        cross join lateral (select (c._anchor).*) as h
        where c._begins is not null
    ),
    removed as (
        delete from public.dim_published_history as h
        using outcome as c
        where c._origin = 'version' and c._verdict <> 'opened'
            and h.id = c.id and h.valid_from = c._stored_from
        returning 1
    ),
    kept as materialized (
        select c.*, c._takes_effect <> c._stored_from as _is_moved,
            c._takes_effect = c._stored_from and coalesce(c._ends < coalesce(c._stored_to, 'infinity'), false) as _is_shortened,
            c._ends is distinct from c._stored_to or c._version_operation <> c._stored_operation
                or (c._lacks is not null and row(c.label)::text is distinct from row((c._version).label)::text)
                or row(c._shown_seen)::text is distinct from row((c._version).seen)::text
                as _is_changed,
            timestamptz '4713-01-01 00:00:00+00 BC' + c._surrogate_key * interval '1 microsecond' as _parked
        from outcome as c
        where c._origin = 'version' and c._verdict = 'opened'
    ),
    vacated as (
        update public.dim_published_history as h
        set valid_from = case when c._is_moved then c._parked else h.valid_from end,
            valid_to = case when c._is_moved then c._parked + interval '1 microsecond' else c._ends end,
            label = c.label, seen = c._shown_seen,
            is_current = false, cdc_operation = c._version_operation, updated_at = transaction_timestamp() at time zone 'UTC'
        from kept as c
        where (c._is_moved or c._is_shortened) and h.id = c.id and h.valid_from = c._stored_from
        returning 1
    ),
    settled as (
        update public.dim_published_history as h
        set valid_to = c._ends, is_current = c._ends is null,
            label = c.label, seen = c._shown_seen,
            cdc_operation = c._version_operation, updated_at = transaction_timestamp() at time zone 'UTC'
        from kept as c
        where c._is_changed and not c._is_moved and not c._is_shortened
            and h.id = c.id and h.valid_from = c._stored_from
            and (select count(*) from removed) + (select count(*) from vacated) >= 0
        returning 1
    ),
    opened as (
        insert into public.dim_published_history as h (
            id, label, seen,
            valid_from, valid_to, is_current, cdc_operation, cdc_timestamp,
            batch_id, change_line, captured_at, created_at, updated_at
        )
        select
            c.id, c.label, c._shown_seen,
            c._takes_effect, c._ends, c._ends is null,
            c._version_operation, c._effective,
            c._batch_id, c._line, c._captured_at,
            transaction_timestamp() at time zone 'UTC', transaction_timestamp() at time zone 'UTC'
        from outcome as c
        where c._origin <> 'version' and c._verdict = 'opened' and c._surrogate_key is null
            and (select count(*) from removed) + (select count(*) from vacated) + (select count(*) from settled) >= 0
        order by c._captured_at, c._sequence, c._batch_id, c._line
        returning
            h.surrogate_key as _surrogate_key, h.is_current as _is_current, h.valid_from as _takes_effect,
            h.id
    ),
    reopened as (
        insert into public.dim_published_history as h (
            surrogate_key, id, label, seen,
            valid_from, valid_to, is_current, cdc_operation, cdc_timestamp,
            batch_id, change_line, captured_at, created_at, updated_at
        )
        overriding system value
        select
            c._surrogate_key, c.id, c.label, c._shown_seen,
            c._takes_effect, c._ends, c._ends is null,
            c._version_operation, c._effective,
            c._batch_id, c._line, c._captured_at,
            transaction_timestamp() at time zone 'UTC', transaction_timestamp() at time zone 'UTC'
        from outcome as c
        where c._origin = 'absorbed' and c._verdict = 'opened' and c._surrogate_key is not null
            and (select count(*) from removed) + (select count(*) from vacated) + (select count(*) from settled) >= 0
        returning h.is_current as _is_current
    ),
    -- What was and what is are compared as points of a key's time: versions begin, and lives end.
    former_point as (
        select c._business_key, false as _is_end, c._stored_from as _moment, c._surrogate_key as _version_key,
            c._stored_to as _until
        from outcome as c
        where c._origin = 'version'
        union all
        select c._business_key, true, c._stored_closed_at, null, null
        from outcome as c
        where c._origin = 'absorbed' and c._stored_reason = 'delete'
    ),
    point as (
        select c.*, lag(c._version_key) over (partition by c._business_key order by c._moment, c._is_end desc) as _key_before
        from (
            select c._business_key, false as _is_end, c._takes_effect as _moment,
                coalesce(c._surrogate_key, o._surrogate_key) as _version_key, c._version_operation as _operation,
                case c._batch_id when p_batch.batch_id then c._line end as _line, c._origin = 'version' as _was_there,
                c._lacks is not null and c._origin = 'version'
                    and row(c.label)::text is distinct from row((c._version).label)::text
                    as _is_altered
            from outcome as c
            left join opened as o using (id, _takes_effect)
            where c._verdict = 'opened'
            union all
            select c._business_key, true, c._takes_effect, null, 'DELETE',
                case c._batch_id when p_batch.batch_id then c._line end, c._stored_reason is not distinct from 'delete', false
            from outcome as c
            where c._verdict = 'delete'
        ) as c
    ),
    difference as (
        select c.*
        from (
            select _business_key, _is_end, _moment, n._operation, n._line, n._was_there,
                n._operation is null as _is_gone, f._business_key is null as _is_new,
                coalesce(n._version_key, f._version_key) as _version_key,
                case when n._operation <> 'INSERT' then n._key_before end as _before_key,
                n._version_key is distinct from f._version_key or n._is_altered as _is_other,
                max(case when f._business_key is not null then greatest(_moment, f._until) end) over (partition by _business_key)
                    as _last_moment
            from former_point as f
            full join point as n using (_business_key, _is_end, _moment)
        ) as c
        where c._is_gone or c._is_new or c._is_other
    ),
    event_group as materialized (
        select nextval('tidemark.event_groups_group_id_seq') as _group_id
    ),
    noted as (
        insert into tidemark.events (
            group_id, place, kind, is_end, business_key, version_key, before_key, effective_at, change_line
        )
        select g._group_id,
            row_number() over (order by c._is_gone desc, c._moment, c._is_end desc, c._business_key collate "C"),
            case
                when c._is_gone then 'retracted'
                when c._was_there or not c._is_new or c._moment < c._last_moment then 'corrected'
                when p_batch.retracted_at is not null then 'corrected'
                when c._operation = 'INSERT' then 'created'
                when c._operation = 'UPDATE' then 'updated'
                else 'deleted'
            end,
            c._is_end, c._business_key, c._version_key, c._before_key, c._moment, c._line
        from difference as c
        cross join event_group as g
        returning group_id as _group_id
    ),
    noted_group as (
        insert into tidemark.event_groups (group_id, dimension_name, batch_id, event_count)
        select n._group_id, 'published', p_batch.batch_id, count(*) from noted as n group by n._group_id
    ),
    forgotten as (
        delete from tidemark.first_values as f
        using outcome as c
        where f.dimension_name = 'published' and f.surrogate_key = c._surrogate_key and c._has_first_values
            and (c._verdict <> 'opened' or not (c._shown_seen::text collate "C" is distinct from c.seen::text))
    ),
    remembered as (
        insert into tidemark.first_values (dimension_name, surrogate_key, values_before)
        select 'published', c._new_key, (select row_to_json(r.*) from (select c.seen) as r)
        from (
            select c.*, coalesce(c._surrogate_key, o._surrogate_key) as _new_key
            from outcome as c
            left join opened as o using (id, _takes_effect)
            where c._verdict = 'opened' and not c._has_first_values and (c._shown_seen::text collate "C" is distinct from c.seen::text)
        ) as c
    ),
    -- That they had some is still known of the time before.
    without_versions as (
        insert into tidemark.former_keys (dimension_name, business_key)
        select distinct 'published', c._business_key
        from outcome as c
        where c._origin = 'version' and c._verdict <> 'opened'
            and not exists (select from outcome as o where o._business_key = c._business_key and o._verdict = 'opened')
        on conflict do nothing
    ),
    woken as (
        delete from tidemark.absorbed_changes as a
        using outcome as c
        where c._origin = 'absorbed' and c._verdict = 'opened'
            and a.dimension_name = 'published' and a.shard = c._shard and a.batch_id = c._batch_id and a.change_line = c._line
    ),
    judged_again as (
        update tidemark.absorbed_changes as a
        set reason = c._verdict, closed_at = case c._verdict when 'delete' then c._takes_effect end
        from outcome as c
        where c._origin = 'absorbed' and c._verdict <> 'opened'
            and (c._verdict, case c._verdict when 'delete' then c._takes_effect end)
                is distinct from (c._stored_reason, c._stored_closed_at)
            and a.dimension_name = 'published' and a.shard = c._shard and a.batch_id = c._batch_id and a.change_line = c._line
    ),
    absorbed as (
        insert into tidemark.absorbed_changes (
            dimension_name, shard, batch_id, change_line, business_key,
            cdc_operation, cdc_timestamp, captured_at, reason, closed_at, surrogate_key, change
        )
        select 'published', c._shard, c._batch_id, c._line, c._business_key,
            coalesce(c._stored_operation, c._operation), c._effective, c._captured_at,
            c._verdict, case c._verdict when 'delete' then c._takes_effect end, c._surrogate_key,
            (select row_to_json(r.*) from (
                select c.id, c.label::text as label, c.seen,
                    coalesce(c._stored_operation, c._operation) as operation_type, c._effective as cdc_timestamp,
                    c._captured_at as extracted_at
            ) as r)
        from outcome as c
        where c._origin <> 'absorbed' and c._verdict <> 'opened'
    )
    select
        (select count(*) from opened) + (select count(*) from reopened),
        (select count(*) from kept as c where c._stored_to is null and c._ends is not null)
            + (select count(*) from opened as o where not o._is_current) + (select count(*) from reopened as o where not o._is_current),
        (select count(*) from outcome as c where c._origin = 'new' and c._verdict <> 'opened'),
        (select count(*) from removed) + (
            select count(*)
            from kept as c
            where c._is_moved or c._ends is distinct from coalesce(c._stored_to, c._ends)
                or c._version_operation <> c._stored_operation
        ),
        (select count(*) from outcome as c where c._origin = 'new' and c._is_followed),
        count(*),
        min(c._line) filter (
            where c._operation is null or c._operation not in ('INSERT', 'UPDATE', 'DELETE')
                or c._is_captured_oddly or c._captured_at < '0001-01-01 00:00:00+00'
                or c.id is null
        ),
        min(c._captured_at),
        max(c._captured_at),
        (
            select json_agg(row_to_json(m.*))
            from (select c.id, c._parked, c._takes_effect, c._ends from kept as c where c._is_moved) as m
        )
    into
        inserted_versions, closed_versions, absorbed_changes, corrected_versions, late_changes,
        change_count, first_bad_line, least_captured_at, greatest_captured_at, own.moved
    from change as c;

    if own.moved is not null and first_bad_line is null then
        update public.dim_published_history as h
        set valid_from = c._takes_effect, valid_to = c._ends, is_current = c._ends is null
        from (
            select c.id, c._parked, c._takes_effect, c._ends
            from json_to_recordset(own.moved) as c (
                id bigint, _parked timestamptz, _takes_effect timestamptz, _ends timestamptz
            )
        ) as c
        where h.id = c.id and h.valid_from = c._parked;
    end if;
    return next;
end;
