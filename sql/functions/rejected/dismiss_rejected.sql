create or replace function tidemark.dismiss_rejected(
    p_dimension_name text,
    p_batch_id text,
    p_change_line integer,
    p_reason text,
    p_column_name text default null,
    p_fault text default null,
    p_cause text default null,
    p_who text default null
)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Takes rejected changes off the list of those that wait, because history need not have them: the rows they came from were captured anew
-- since, for instance. They stay in tidemark.rejected_changes with who decided so, when and why, fail no check and are not tried again.
-- Those of a dimension, or of a batch of it, a line of that, a column at fault, with p_fault in the reason of their rejection, or of a
-- cause of tidemark.rejected_causes; null is any. p_reason null: they wait again. Those that were dismissed already keep their reason, and
-- those that were settled are left alone. Who did it is p_who, else the session's role; tidemark.actions notes it too.
-- Safe to repeat. Waits for a loader of the dimension to end its batch. Returns how many such changes there are.
-- Errors: TM002 unknown table; TM012 no reason is given.
declare
    v_now timestamptz;
    v_count bigint;
    v_moved bigint;
begin
    perform tidemark._assert_dimension_known(p_dimension_name);
    if btrim(p_reason) = '' then
        raise exception using
            errcode = 'TM012',
            message = 'a change cannot be dismissed without a reason',
            detail = format('table=%s', p_dimension_name),
            hint = 'say in p_reason why history need not have it';
    end if;
    perform tidemark._lock_dimension(p_dimension_name, '');
    v_now := clock_timestamp();

    with moved as (
        update tidemark.rejected_changes as r
        set dismissed_at = case when p_reason is not null then coalesce(r.dismissed_at, v_now) end,
            dismissed_by = case when p_reason is not null then coalesce(r.dismissed_by, tidemark._who(p_who)) end,
            dismiss_reason = case when p_reason is not null then coalesce(r.dismiss_reason, p_reason) end
        where r.dimension_name = p_dimension_name
            and (p_batch_id is null or r.batch_id = p_batch_id)
            and (p_change_line is null or r.change_line = p_change_line)
            and (p_column_name is null or r.column_name = p_column_name)
            and (p_fault is null or position(p_fault in r.reason) > 0)
            and (p_cause is null or exists (
                select
                from tidemark.rejected_reasons as n
                where n.dimension_name = r.dimension_name and n.shard = r.shard and n.batch_id = r.batch_id
                    and n.change_line = r.change_line and tidemark._cause(n.reason) = p_cause
            ))
            and case when p_reason is null then r.dismissed_at is not null else r.settled_at is null or r.dismissed_at is not null end
        returning r.dismissed_at is null or r.dismissed_at = v_now as is_new
    )
    select count(*), count(*) filter (where m.is_new) into v_count, v_moved from moved as m;
    if v_moved > 0 then
        perform tidemark._note_action(
            p_dimension_name, case when p_reason is null then 'wait again' else 'dismiss' end, p_who, p_reason, p_batch_id, v_moved
        );
    end if;
    return v_count;
end;
$$;

revoke execute on function tidemark.dismiss_rejected (text, text, integer, text, text, text, text, text) from public;
