create or replace function tidemark.forget_keys(
    p_forgetting_ids bigint [],
    p_key text [] default null
)
returns setof tidemark.forgettings
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Erases forgotten keys from the warehouse: versions, first values, absorbed, rejected and retracted changes, and their names among the
-- metadata of the ledger, where a token stands instead. Then the forgettings (tidemark.begin_forgetting), all of one table, are finished;
-- their notes are returned. Where shells are kept, versions stay, and what ended them, under the token and without values.
-- p_key is the key of all of them; without it keys are found by their hashes, and of each goes what was captured until it was forgotten: a
-- life that began later stays, and is folded anew without the other.
-- What "tidemark forget" does to batch files is done before it. Safe to repeat. Takes the dimension for itself.
-- A key goes from events, too; one of kind forgotten tells subscriptions, and has the key until all of them have it. A life that stays is
-- told after that, as corrected. It goes from a copy of the history, too, that is being made or was cut off
-- (tidemark.begin_partitioning). Exports of the history are behind from then on, until they are made anew.
-- Errors: TM006 isolation level, TM020 another number of key columns, and those of the history table.
declare
    v_dimension text := (select f.dimension_name from tidemark.forgettings as f where f.forgetting_id = p_forgetting_ids[1]);
    v_is_copied boolean;
    v_found record;
begin
    perform tidemark._assert_read_committed('forget_keys');
    perform tidemark._lock_dimension(v_dimension, '');
    v_is_copied := tidemark._hold_copy(v_dimension);
    perform tidemark._erase_rejected(p_forgetting_ids);
    if p_key is not null then
        perform tidemark._erase_key(f, tidemark._asked_key(v_dimension, p_key))
        from tidemark.forgettings as f
        where f.forgetting_id = any (p_forgetting_ids);
    else
        for v_found in
            select k.forgetting_id, k.business_key
            from tidemark._keys_of_forgettings(p_forgetting_ids) as k
            join tidemark.forgettings as f using (forgetting_id)
            order by f.captured_until, f.forgetting_id
        loop
            perform tidemark._erase_key(f, v_found.business_key)
            from tidemark.forgettings as f
            where f.forgetting_id = v_found.forgetting_id;
        end loop;
    end if;
    update tidemark.batches as b
    set metadata = m.metadata
    from tidemark.batches as o
    cross join lateral (select tidemark.forget_in_metadata(p_forgetting_ids, o.metadata)::json as metadata) as m
    where o.dimension_name = v_dimension and m.metadata is not null
        and b.dimension_name = o.dimension_name and b.shard = o.shard and b.batch_id = o.batch_id;
    if v_is_copied then
        perform tidemark._forget_in_copy(v_dimension);
    end if;
    update tidemark.exports as e set behind_since = clock_timestamp() where e.dimension_name = v_dimension;
    return query
    update tidemark.forgettings as f
    set finished_at = coalesce(f.finished_at, clock_timestamp())
    where f.forgetting_id = any (p_forgetting_ids)
    returning f.*;
end;
$$;

revoke execute on function tidemark.forget_keys (bigint [], text []) from public;

create or replace function tidemark._keys_of_forgettings(
    p_forgetting_ids bigint []
)
returns table (
    forgetting_id bigint,
    business_key text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The keys that the warehouse still has, or has again, of those that were forgotten, found by their hashes: reads all keys of the history.
-- A key of which all was captured later than that is not among them.
declare
    v_dimension text := (select f.dimension_name from tidemark.forgettings as f where f.forgetting_id = p_forgetting_ids[1]);
begin
    return query execute tidemark._laid_out(
        $query$
        with kept as (
            select json_build_object({printed_stored_key})::text as _business_key, h.captured_at as _captured_at from {history} as h
            union all
            select a.business_key, a.captured_at from tidemark.absorbed_changes as a where a.dimension_name = {dimension}
            union all
            select r.business_key, r.captured_at
            from tidemark.retracted_changes as r
            where r.dimension_name = {dimension} and r.rejected is null
            union all
            select f.business_key, '-infinity' from tidemark.former_keys as f where f.dimension_name = {dimension}
        ),
        hashed as materialized (
            select k._business_key, k._since,
                tidemark._keyed_hash(p.inner_pad, p.outer_pad, {dimension} || e'\n' || k._business_key) as _hash
            from (select k._business_key, min(k._captured_at) as _since from kept as k group by k._business_key) as k
            cross join tidemark._hash_pads() as p
        )
        select f.forgetting_id, k._business_key
        from hashed as k
        join tidemark.forgettings as f on f.key_hash = k._hash
        where f.forgetting_id = any ($1) and (f.captured_until is null or k._since <= f.captured_until)
        $query$,
        tidemark._column_lists(v_dimension)
    )
    using p_forgetting_ids;
end;
$$;

create or replace function tidemark._erase_rejected(
    p_forgetting_ids bigint []
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Deletes the rejected changes of forgotten keys, those of retracted batches too. They are looked at change by change: a key may be written
-- in another way there, or be none.
begin
    with kept as materialized (
        select k.*, row_number() over (order by k.shard, k.batch_id, k.change_line) as place
        from (
            select r.dimension_name, r.shard, r.batch_id, r.change_line, r.change,
                tidemark._capture_time(r.change, b.extracted_at) as captured_at
            from tidemark.rejected_changes as r
            join tidemark.batches as b using (dimension_name, shard, batch_id)
            union all
            select r.dimension_name, r.shard, r.batch_id, r.change_line, r.change, r.captured_at
            from tidemark.retracted_changes as r
            where r.rejected is not null
        ) as k
        where k.dimension_name = (select f.dimension_name from tidemark.forgettings as f where f.forgetting_id = p_forgetting_ids[1])
    ),
    found as (
        select k.dimension_name, k.shard, k.batch_id, k.change_line, p.forgetting_id
        from tidemark._places_of_keys(
            p_forgetting_ids, '-infinity', (select coalesce(json_agg(k.change order by k.place), '[]') from kept as k)
        ) as p
        join kept as k using (place)
        join tidemark.forgettings as f using (forgetting_id)
        where f.captured_until is null or k.captured_at <= f.captured_until
    ),
    set_aside as (
        delete from tidemark.rejected_changes as r
        using found as g
        where (r.dimension_name, r.shard, r.batch_id, r.change_line) = (g.dimension_name, g.shard, g.batch_id, g.change_line)
        returning g.*
    ),
    retracted as (
        delete from tidemark.retracted_changes as r
        using found as g
        where (r.dimension_name, r.shard, r.batch_id, r.change_line) = (g.dimension_name, g.shard, g.batch_id, g.change_line)
        returning g.*
    ),
    counted as (
        update tidemark.batches as b
        set forgotten_changes = coalesce(b.forgotten_changes, 0) + g.changes
        from (
            select e.dimension_name, e.shard, e.batch_id, count(*)::integer as changes
            from (
                select s.* from set_aside as s
                union all
                select r.* from retracted as r
            ) as e
            group by e.dimension_name, e.shard, e.batch_id
        ) as g
        where (b.dimension_name, b.shard, b.batch_id) = (g.dimension_name, g.shard, g.batch_id)
    )
    update tidemark.forgettings as f
    set rejected_changes = f.rejected_changes + (select count(*) from set_aside as s where s.forgetting_id = f.forgetting_id),
        retracted_changes = f.retracted_changes + (select count(*) from retracted as r where r.forgetting_id = f.forgetting_id)
    where f.forgetting_id = any (p_forgetting_ids);
end;
$$;

create or replace function tidemark._erase_key(
    p_forgetting tidemark.forgettings,
    p_business_key text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Deletes what is kept of a key, but for what was rejected, and adds to each batch how many of its changes that were; or makes shells of
-- the versions, which have the token for a key, and of what ended them. Where it is known up to when the forgetting was about, later
-- changes stay: they are put aside first, and folded anew in the end.
declare
    v_parts jsonb := tidemark._column_lists(p_forgetting.dimension_name) || jsonb_build_object(
        'shells', case when p_forgetting.keeps_shells then '[""]' else '[]' end::jsonb,
        'no_shells', case when p_forgetting.keeps_shells then '[]' else '[""]' end::jsonb,
        'without_values', (
            select coalesce(jsonb_agg(format('%I = null', c.name)), '[]') from tidemark._shell_columns(p_forgetting.dimension_name) as c
        ),
        'token_for_key', (
            select jsonb_agg(format('%1$I = t.%1$I', c.history_column) order by c.ordinal)
            from tidemark.dimension_columns as c
            where c.dimension_name = p_forgetting.dimension_name and c.column_role = 'business key'
        )
    );
    v_until timestamptz := coalesce(p_forgetting.captured_until, 'infinity');
    v_shell_key text;
    v_erased record;
begin
    if p_forgetting.keeps_shells then
        v_shell_key := tidemark._asked_key(p_forgetting.dimension_name, p_forgetting.token);
        insert into tidemark.shell_keys (dimension_name, business_key)
        values (p_forgetting.dimension_name, v_shell_key)
        on conflict do nothing;
    end if;
    if p_forgetting.captured_until is not null then
        perform tidemark._put_aside(p_forgetting.dimension_name, p_business_key, v_until);
    end if;
    execute tidemark._laid_out(
        $statement$
        with asked as (
            select {key_values}, $1 as _business_key from json_to_record($1::json) as c ({keys_as})
        ),
{shells}        token as (
{shells}            select {key_values} from json_to_record($3::json) as c ({keys_as})
{shells}        ),
        versions as (
{no_shells}            delete from {history} as h using asked as c where {same_key: and} and h.captured_at <= $2
{shells}            update {history} as h
{shells}            set {token_for_key}
{shells}                , {without_values}
{shells}            from asked as c
{shells}            cross join token as t
{shells}            where {same_key: and} and h.captured_at <= $2
            returning h.surrogate_key, h.batch_id::text as batch_id
        ),
        first_values as (
            delete from tidemark.first_values as f
            using versions as v
            where f.dimension_name = {dimension} and f.surrogate_key = v.surrogate_key
            returning 1
        ),
{shells}        ended as (
{shells}            update tidemark.absorbed_changes as a
{shells}            set business_key = $3, change = (
{shells}                select row_to_json(r.*)
{shells}                from (
{shells}                    select {printed_keys},
{shells}                        a.cdc_operation as operation_type, a.cdc_timestamp as cdc_timestamp, a.captured_at as extracted_at
{shells}                    from token as c
{shells}                ) as r
{shells}            )
{shells}            where a.dimension_name = {dimension} and a.business_key = $1 and a.captured_at <= $2 and a.reason = 'delete'
{shells}        ),
        absorbed as (
            delete from tidemark.absorbed_changes as a
            where a.dimension_name = {dimension} and a.business_key = $1 and a.captured_at <= $2
{shells}                and a.reason <> 'delete'
            returning a.batch_id
        ),
        retracted as (
            delete from tidemark.retracted_changes as w
            where w.dimension_name = {dimension} and w.business_key = $1 and w.captured_at <= $2 and w.rejected is null
            returning w.batch_id
        ),
        former as (
            delete from tidemark.former_keys as f
            where f.dimension_name = {dimension} and f.business_key = $1
        ),
        counted as (
            update tidemark.batches as b
            set forgotten_changes = coalesce(b.forgotten_changes, 0) + g.changes
            from (
                select e.batch_id, count(*)::integer as changes
                from (
{no_shells}                    select v.batch_id from versions as v
{no_shells}                    union all
                    select a.batch_id from absorbed as a
                    union all
                    select r.batch_id from retracted as r
                ) as e
                group by e.batch_id
            ) as g
            where b.dimension_name = {dimension} and b.batch_id = g.batch_id
        )
        select
            (select count(*) from versions) as versions,
            (select count(*) from absorbed) as absorbed,
            (select count(*) from retracted) as retracted,
            (select count(*) from first_values) as first_values
        $statement$,
        v_parts
    )
    into v_erased using p_business_key, v_until, v_shell_key;
    update tidemark.forgettings as f
    set versions = f.versions + v_erased.versions,
        absorbed_changes = f.absorbed_changes + v_erased.absorbed,
        retracted_changes = f.retracted_changes + v_erased.retracted,
        first_values = f.first_values + v_erased.first_values
    where f.forgetting_id = p_forgetting.forgetting_id;
    perform tidemark._forget_in_events(p_forgetting.dimension_name, p_business_key);
    if not p_forgetting.keeps_shells then
        -- What was asked for may be a token itself.
        delete from tidemark.shell_keys as s where s.dimension_name = p_forgetting.dimension_name and s.business_key = p_business_key;
    end if;
    -- What is left of the key is a later life, and what it was folded upon is gone; that life may have ended the last shell, and its end
    -- may have been loaded, with its line a shell already, before the versions had the token. A key of which nothing is left is not
    -- folded: that would note it where a table was truncated.
    perform tidemark._fold_keys(p_forgetting.dimension_name, array_agg(k.business_key))
    from (
        select v_shell_key
        where p_forgetting.keeps_shells
        union all
        select p_business_key
        where exists (
            select
            from tidemark.absorbed_changes as a
            where a.dimension_name = p_forgetting.dimension_name and a.business_key = p_business_key
        )
    ) as k (business_key)
    having count(*) > 0;
end;
$$;

create or replace function tidemark._put_aside(
    p_dimension_name text,
    p_business_key text,
    p_captured_after timestamptz
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Takes the versions of a key that were captured after a moment back to changes, as tidemark._retract_changes does: they lie among the
-- absorbed ones, with the surrogate keys they had, until tidemark._fold_keys makes versions of them again.
begin
    execute tidemark._laid_out(
        $statement$
        with asked as (
            select {key_values} from json_to_record($1::json) as c ({keys_as})
        ),
        gone as (
            delete from {history} as h using asked as c where {same_key: and} and h.captured_at > $2 returning h.*
        ),
        forgotten as (
            delete from tidemark.first_values as f
            using gone as h
            where f.dimension_name = {dimension} and f.surrogate_key = h.surrogate_key
            returning f.surrogate_key, f.values_before
        ),
        version as (
            select {version_values}, h.surrogate_key as _surrogate_key, h.change_line as _line, h.cdc_operation as _operation,
                h.cdc_timestamp{at_utc} as _effective, h.captured_at as _captured_at, b.shard as _shard, b.batch_id as _batch_id
            from gone as h
            cross join lateral (select {stored_key_values}) as c
            cross join lateral (
                select b.shard, b.batch_id, tidemark._lacking(b.columns, $3) as _lacks
                from tidemark.batches as b
                where b.dimension_name = {dimension} and b.batch_id = h.batch_id::text
            ) as b
            left join forgotten as f on f.surrogate_key = h.surrogate_key
{untracked}            left join lateral (
{untracked}                select {stored_first_values}
{untracked}                from rows from (json_to_record(f.values_before) as ({read_untracked_as})) as c ({untracked_columns})
{untracked}            ) as o on true
        )
        insert into tidemark.absorbed_changes (
            dimension_name, shard, batch_id, change_line, business_key,
            cdc_operation, cdc_timestamp, captured_at, reason, surrogate_key, change
        )
        select {dimension}, c._shard, c._batch_id, c._line, $1,
            c._operation, c._effective, c._captured_at, 'unchanged', c._surrogate_key,
            (select row_to_json(r.*) from (
                select {printed},
                    c._operation as operation_type, c._effective as cdc_timestamp, c._captured_at as extracted_at
            ) as r)
        from version as c
        $statement$,
        tidemark._column_lists(p_dimension_name)
    )
    using p_business_key, p_captured_after, array(
        select c.source_column
        from tidemark.dimension_columns as c
        where c.dimension_name = p_dimension_name and c.may_be_missing
    );
end;
$$;

create or replace function tidemark._fold_keys(
    p_dimension_name text,
    p_business_keys text []
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Folds keys anew, from their first change on. No change is added: those that name them are of a batch that counts as retracted.
declare
    v_batch tidemark.batches;
    v_changes json;
begin
    execute tidemark._laid_out(
        $query$
        select json_agg(r.*)
        from (
            select {printed_keys}, 'DELETE' as operation_type
            from unnest($1) as k (_key)
            cross join lateral json_to_record(k._key::json) as c ({keys_as})
        ) as r
        $query$,
        tidemark._column_lists(p_dimension_name)
    )
    into v_changes using p_business_keys;
    v_batch.dimension_name := p_dimension_name;
    v_batch.shard := '';
    v_batch.extracted_at := '-infinity';
    v_batch.retracted_at := '-infinity';
    perform tidemark._fold_changes(v_batch, v_changes, null, 'infinity');
end;
$$;
