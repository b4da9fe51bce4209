create or replace function tidemark._settle_rejected(
    p_dimension_name text,
    p_shard text,
    p_batch_id text,
    p_changes json
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Settles rejected changes that wait though a later change of their key was applied: what is in force is right without them. They stay
-- where they are, with the batch and line of that change; history lacks what they said until a retry applies them.
-- Later is later captured; in the order of effective times, of a later effective time. Looks at those of a batch that was applied just now
-- and at those of its keys, as the source prints them; at all where p_batch_id is null. Then history says whether there is a later change.
-- A change whose key or time cannot be read goes on waiting. Safe to repeat. Where none of the dimension waits it is a look into an index.
declare
    v_rejected record;
    v_statement text;
    v_batch_id text;
    v_line integer;
begin
    if not exists (
        select
        from tidemark.rejected_changes as r
        where r.dimension_name = p_dimension_name and r.dismissed_at is null and r.settled_at is null
    ) then
        return;
    end if;
    for v_rejected in execute format(
        $query$
        with waiting as not materialized (
            select r.* from tidemark.rejected_changes as r where r.dimension_name = $1 and r.dismissed_at is null and r.settled_at is null
        ),
        applied as (
            select distinct %s as business_key
            from json_array_elements($4) with ordinality as e (change, line)
            where not exists (
                select
                from tidemark.rejected_changes as r
                where r.dimension_name = $1 and r.shard = $2 and r.batch_id = $3 and r.change_line = e.line
            )
        ),
        candidate as (
            select w.shard, w.batch_id, w.change_line from applied as a join waiting as w on w.business_key = a.business_key
            union
            select w.shard, w.batch_id, w.change_line from waiting as w where $3 is null or (w.shard = $2 and w.batch_id = $3)
        )
        select w.shard, w.batch_id, w.change_line, w.change, tidemark._capture_time(w.change, b.extracted_at) as captured_at, b.sequence
        from candidate as c
        join waiting as w on w.shard = c.shard and w.batch_id = c.batch_id and w.change_line = c.change_line
        join tidemark.batches as b on b.dimension_name = $1 and b.shard = w.shard and b.batch_id = w.batch_id
        where w.business_key is not null
        $query$,
        tidemark._printed_key_expression(p_dimension_name, 'e.change')
    )
    using p_dimension_name, p_shard, p_batch_id, p_changes
    loop
        v_statement := coalesce(v_statement, tidemark._laid_out(
            $query$
            select l.batch_id, l.change_line
            from (select {stored_keys} from rows from (json_to_record($1) as ({read_keys_as})) as c ({keys})) as c
{by_time}            cross join rows from (json_to_record($1) as (cdc_timestamp timestamptz)) as t
            cross join lateral (
                select h.batch_id::text as batch_id, h.change_line::integer as change_line, h.captured_at,
                    h.cdc_timestamp{at_utc} as told_at
                from {versions} as h
                where {same_key: and}
                union all
                select a.batch_id, a.change_line, a.captured_at, a.cdc_timestamp
                from tidemark.absorbed_changes as a
                where a.dimension_name = {dimension} and a.business_key = json_build_object({printed_key})::text
            ) as l
            left join tidemark.batches as b on b.dimension_name = {dimension} and b.batch_id = l.batch_id
{by_capture}            where (l.captured_at, coalesce(b.sequence, 9223372036854775807), l.batch_id collate "C", l.change_line)
{by_capture}                > ($2, coalesce($3, 9223372036854775807), $4 collate "C", $5)
{by_time}            where l.told_at > t.cdc_timestamp
            order by l.captured_at, l.batch_id, l.change_line
            limit 1
            $query$,
            tidemark._column_lists(p_dimension_name)
        ));
        begin
            execute v_statement
            into v_batch_id, v_line
            using v_rejected.change, v_rejected.captured_at, v_rejected.sequence, v_rejected.batch_id, v_rejected.change_line;
        exception
            when data_exception or integrity_constraint_violation or invalid_parameter_value then
                v_batch_id := null;
        end;
        if v_batch_id is not null then
            update tidemark.rejected_changes as r
            set settled_at = clock_timestamp(), settled_by_batch = v_batch_id, settled_by_line = v_line
            where r.dimension_name = p_dimension_name and r.shard = v_rejected.shard and r.batch_id = v_rejected.batch_id
                and r.change_line = v_rejected.change_line;
        end if;
    end loop;
end;
$$;
