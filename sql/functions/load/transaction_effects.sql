create or replace function tidemark.transaction_effects(
    p_dimension_name text,
    p_limit integer
)
returns table (
    effect text,
    business_key text,
    batch_id text,
    change_line integer,
    valid_from timestamptz,
    valid_to timestamptz,
    reason text,
    shown_values text
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
-- What this transaction has done to one history so far, by example: the first p_limit rows of each kind, with their values cut short.
-- For a dry run, which applies batches, retries or dismisses what was rejected, or retracts a batch, asks, and rolls back. opened and
-- altered are versions; retracted, absorbed, rejected and dismissed are changes. A version is altered when it was there before and was
-- closed, moved or overwritten.
-- Rows are told by their transaction, which holds the dimension; its time is handed over, as workers of Citus have a time of their own.
#variable_conflict use_column
declare
    v_effects text := tidemark._laid_out(
        $statement$
select
    case when h.created_at = $6 at time zone 'UTC' then 'opened' else 'altered' end as effect,
    json_build_object({printed_stored_key})::text as business_key, h.batch_id::text as batch_id, h.change_line::integer as change_line,
    h.valid_from{at_utc} as valid_from, h.valid_to{at_utc} as valid_to, null::text as reason,
    tidemark._shown_values((select row_to_json(r.*) from (select {columns}) as r), $3) as shown_values
from {history} as h
where h.updated_at = $6 at time zone 'UTC'
        $statement$,
        tidemark._column_lists(p_dimension_name)
    );
    v_history_columns text [];
    v_source_columns text [];
begin
    select array_agg(c.history_column), array_agg(c.source_column)
    into v_history_columns, v_source_columns
    from tidemark.dimension_columns as c
    where c.dimension_name = p_dimension_name and c.column_role in ('tracked', 'untracked');
    return query execute format(
        $statement$
with effects as (
    %s
    union all
    select 'absorbed', a.business_key, a.batch_id, a.change_line, null, a.closed_at, a.reason, tidemark._shown_values(a.change, $4)
    from tidemark.absorbed_changes as a
    join tidemark.batches as b using (dimension_name, shard, batch_id)
    where a.dimension_name = $1 and age(a.xmin) between 0 and $5 and age(b.xmin) between 0 and $5
    union all
    select 'rejected', r.business_key, r.batch_id, r.change_line, null, null, concat_ws(': ', r.column_name, r.reason),
        tidemark._shown_values(r.change, $4)
    from tidemark.rejected_changes as r
    where r.dimension_name = $1 and r.rejected_at >= transaction_timestamp()
    union all
    select 'dismissed', r.business_key, r.batch_id, r.change_line, null, null, concat_ws(': ', r.column_name, r.reason),
        tidemark._shown_values(r.change, $4)
    from tidemark.rejected_changes as r
    where r.dimension_name = $1 and r.dismissed_at >= transaction_timestamp()
    union all
    select 'retracted', r.business_key, r.batch_id, r.change_line, null, null, r.rejected ->> 'reason',
        tidemark._shown_values(r.change, $4)
    from tidemark.retracted_changes as r
    where r.dimension_name = $1 and age(r.xmin) between 0 and $5
),
numbered as (
    select e.*, row_number() over (partition by e.effect order by e.business_key, e.valid_from, e.batch_id, e.change_line) as place
    from effects as e
)
select n.effect, n.business_key, n.batch_id, n.change_line, n.valid_from, n.valid_to, n.reason, n.shown_values
from numbered as n
where n.place <= $2
order by array_position(array['retracted', 'opened', 'altered', 'absorbed', 'rejected', 'dismissed'], n.effect), n.place
        $statement$,
        v_effects
    )
    using p_dimension_name, p_limit, v_history_columns, v_source_columns, age(pg_current_xact_id_if_assigned()::xid),
        transaction_timestamp();
end;
$$;

revoke execute on function tidemark.transaction_effects (text, integer) from public;

create or replace function tidemark._shown_values(
    p_object json,
    p_names text []
)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
-- The values of some members of a JSON object for a person to read: name=value, each value cut after 40 characters.
select string_agg(
    format('%s=%s', e.name, case when length(e.value) > 40 then left(e.value, 40) || '...' else coalesce(e.value, 'null') end),
    ', ' order by e.place
)
from json_each_text(case when json_typeof(p_object) = 'object' then p_object end) with ordinality as e (name, value, place)
where e.name = any (p_names);
$$;
