create or replace function tidemark.dismiss_rejected(
    p_dimension_name text,
    p_batch_id text,
    p_change_line integer,
    p_reason text,
    p_column_name text default null,
    p_fault text default null
)
returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Takes rejected changes off the list of those that wait, because history need not have them: the rows they came from were captured anew
-- since, for instance. They stay in tidemark.rejected_changes with who decided so, when and why, fail no check and are not tried again.
-- Those of a dimension, or of a batch of it, a line of that, a column at fault, or with p_fault in the reason of their rejection; null is
-- any. p_reason null: they wait again. Those that were dismissed already keep their reason, and those that were settled are left alone.
-- Safe to repeat. Waits for a loader of the dimension to end its batch. Returns how many such changes there are.
-- Errors: TM002 unknown table; TM012 no reason is given.
declare
    v_count bigint;
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

    update tidemark.rejected_changes as r
    set dismissed_at = case when p_reason is not null then coalesce(r.dismissed_at, clock_timestamp()) end,
        dismissed_by = case when p_reason is not null then coalesce(r.dismissed_by, session_user) end,
        dismiss_reason = case when p_reason is not null then coalesce(r.dismiss_reason, p_reason) end
    where r.dimension_name = p_dimension_name
        and (p_batch_id is null or r.batch_id = p_batch_id)
        and (p_change_line is null or r.change_line = p_change_line)
        and (p_column_name is null or r.column_name = p_column_name)
        and (p_fault is null or position(p_fault in r.reason) > 0)
        and case when p_reason is null then r.dismissed_at is not null else r.settled_at is null or r.dismissed_at is not null end;
    get diagnostics v_count = row_count;
    return v_count;
end;
$$;

revoke execute on function tidemark.dismiss_rejected (text, text, integer, text, text, text) from public;
