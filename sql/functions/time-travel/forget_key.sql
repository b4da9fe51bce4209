create or replace function tidemark.forget_key(
    p_forgetting_id bigint,
    p_key text [],
    p_token text
)
returns setof tidemark.forgettings
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Erases a key from the warehouse: its versions, first values, absorbed, rejected and retracted changes, and its name among the
-- metadata of the ledger, where p_token stands instead. Then the forgetting (tidemark.begin_forgetting) is finished; its note is
-- returned.
-- What "tidemark forget" does to batch files is done before it. Safe to repeat. Takes the dimension for itself.
-- Errors: TM006 isolation level, TM020 another number of key columns, and those of the history table.
declare
    v_dimension text := (select f.dimension_name from tidemark.forgettings as f where f.forgetting_id = p_forgetting_id);
    v_erased record;
begin
    perform tidemark._assert_read_committed('forget_key');
    perform tidemark._lock_dimension(v_dimension, '');
    v_erased := tidemark._erase_key(v_dimension, p_key);
    update tidemark.batches as b
    set metadata = m.metadata
    from tidemark.batches as o
    cross join lateral (select tidemark.forget_in_metadata(v_dimension, p_key, p_token, o.metadata)::json as metadata) as m
    where o.dimension_name = v_dimension and m.metadata is not null
        and b.dimension_name = o.dimension_name and b.shard = o.shard and b.batch_id = o.batch_id;
    return query
    update tidemark.forgettings as f
    set finished_at = clock_timestamp(),
        versions = f.versions + v_erased.versions,
        absorbed_changes = f.absorbed_changes + v_erased.absorbed_changes,
        rejected_changes = f.rejected_changes + v_erased.rejected_changes,
        retracted_changes = f.retracted_changes + v_erased.retracted_changes,
        first_values = f.first_values + v_erased.first_values
    where f.forgetting_id = p_forgetting_id
    returning f.*;
end;
$$;

revoke execute on function tidemark.forget_key (bigint, text [], text) from public;

create or replace function tidemark._erase_key(
    p_dimension_name text,
    p_key text [],
    out versions integer,
    out absorbed_changes integer,
    out rejected_changes integer,
    out retracted_changes integer,
    out first_values integer
)
returns record
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Deletes what is kept of a key, and adds to each batch how many of its changes that were. What was rejected is looked at change by
-- change: its key may be written in another way, or be no key.
declare
    v_rejected record;
begin
    with kept as materialized (
        select k.*, row_number() over (order by k.shard, k.batch_id, k.change_line) as place
        from (
            select r.shard, r.batch_id, r.change_line, r.change
            from tidemark.rejected_changes as r
            where r.dimension_name = p_dimension_name
            union all
            select r.shard, r.batch_id, r.change_line, r.change
            from tidemark.retracted_changes as r
            where r.dimension_name = p_dimension_name and r.rejected is not null
        ) as k
    ),
    found as (
        select f.place
        from unnest(tidemark._places_of_key(
            p_dimension_name, p_key, (select coalesce(json_agg(k.change order by k.place), '[]') from kept as k)
        )) as f (place)
    )
    select array_agg(k.shard) as shards, array_agg(k.batch_id) as batch_ids, array_agg(k.change_line) as lines
    into v_rejected
    from kept as k
    join found as f using (place);

    execute tidemark._laid_out(
        $statement$
        with asked as (
            select {key_values}, json_build_object({printed_key})::text as _business_key
            from (select {stored_keys} from rows from (json_to_record($1) as ({read_keys_as})) as c ({keys})) as c
        ),
        rejected as (
            select * from unnest($2::text[], $3::text[], $4::integer[]) as r (_shard, _batch_id, _line)
        ),
        versions as (
            delete from {history} as h using asked as c where {same_key: and} returning h.surrogate_key, h.batch_id::text as batch_id
        ),
        first_values as (
            delete from tidemark.first_values as f
            using versions as v
            where f.dimension_name = {dimension} and f.surrogate_key = v.surrogate_key
            returning 1
        ),
        absorbed as (
            delete from tidemark.absorbed_changes as a
            using asked as c
            where a.dimension_name = {dimension} and a.business_key = c._business_key
            returning a.batch_id
        ),
        set_aside as (
            delete from tidemark.rejected_changes as w
            using rejected as r
            where w.dimension_name = {dimension} and w.shard = r._shard and w.batch_id = r._batch_id and w.change_line = r._line
            returning w.batch_id
        ),
        retracted as (
            delete from tidemark.retracted_changes as w
            where w.dimension_name = {dimension} and (
                w.business_key = (select c._business_key from asked as c) and w.rejected is null
                or (w.shard, w.batch_id, w.change_line) in (select r._shard, r._batch_id, r._line from rejected as r)
            )
            returning w.batch_id
        ),
        former as (
            delete from tidemark.former_keys as f
            using asked as c
            where f.dimension_name = {dimension} and f.business_key = c._business_key
        ),
        counted as (
            update tidemark.batches as b
            set forgotten_changes = coalesce(b.forgotten_changes, 0) + g.changes
            from (
                select e.batch_id, count(*)::integer as changes
                from (
                    select v.batch_id from versions as v
                    union all
                    select a.batch_id from absorbed as a
                    union all
                    select s.batch_id from set_aside as s
                    union all
                    select r.batch_id from retracted as r
                ) as e
                group by e.batch_id
            ) as g
            where b.dimension_name = {dimension} and b.batch_id = g.batch_id
        )
        select
            (select count(*) from versions),
            (select count(*) from absorbed),
            (select count(*) from set_aside),
            (select count(*) from retracted),
            (select count(*) from first_values)
        $statement$,
        tidemark._column_lists(p_dimension_name)
    )
    into versions, absorbed_changes, rejected_changes, retracted_changes, first_values
    using tidemark._key_as_change(p_dimension_name, p_key), v_rejected.shards, v_rejected.batch_ids, v_rejected.lines;
end;
$$;
