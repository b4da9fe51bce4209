-- The statement that makes history equal to the fold of all changes ever applied, those of this batch included, written for a
-- dimension from its mapping. It holds for a batch in whatever place: late, out of order, or rejected before.
-- Parameters and result as in tidemark._apply_statement; also $7 sequence and $8 columns of the batch, and in the result the
-- versions that tidemark._place_statement has yet to place. Only what differs is written, and what is in the way moves first:
-- versions that go, end earlier, or begin elsewhere (parked before all time, where nothing can collide), then those that grow.
create or replace function tidemark._converge_statement(
    p_dimension_name text
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
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
            or c.cdc_timestamp is null or c.has_other_capture or c.would_be_rounded or {key_is_null}
            or (c.cdc_operation <> 'DELETE' and {cannot_stand})
    ) as first_bad_line,
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
