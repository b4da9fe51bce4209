create or replace function tidemark.dismiss_rejected(
    p_dimension_name text,
    p_batch_id text,
    p_change_line integer,
    p_reason text
)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Takes a rejected change off the list of those that wait, because history need not have it: the row it came from was captured anew
-- since, for instance. It stays in tidemark.rejected_changes with who decided so, when and why, fails no check and is not tried
-- again. p_reason null: it waits again. Safe to repeat. Waits for a loader of the dimension to end its batch.
-- Errors: TM002 unknown table; TM012 no such change waits (or was dismissed), or no reason is given.
begin
    perform tidemark._assert_dimension_known(p_dimension_name);
    if btrim(p_reason) = '' then
        raise exception using
            errcode = 'TM012',
            message = 'a change cannot be dismissed without a reason',
            detail = format('table=%s batch=%s line=%s', p_dimension_name, p_batch_id, p_change_line),
            hint = 'say in p_reason why history need not have it';
    end if;
    perform tidemark._lock_dimension(p_dimension_name, '');

    update tidemark.rejected_changes as r
    set dismissed_at = case when p_reason is not null then clock_timestamp() end,
        dismissed_by = case when p_reason is not null then session_user end,
        dismiss_reason = p_reason
    where r.dimension_name = p_dimension_name and r.batch_id = p_batch_id and r.change_line = p_change_line;
    if not found then
        raise exception using
            errcode = 'TM012',
            message = 'no rejected change is there',
            detail = format('table=%s batch=%s line=%s', p_dimension_name, p_batch_id, p_change_line),
            hint = '"tidemark rejected" lists them by batch and line';
    end if;
end;
$$;

revoke execute on function tidemark.dismiss_rejected (text, text, integer, text) from public;
