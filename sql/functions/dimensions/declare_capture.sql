create or replace function tidemark.declare_capture(
    p_dimension_name text,
    p_capture text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Says how the source table of a dimension is read: poll, log (from the write-ahead log), or both: the log, with full sweeps as a proof.
-- Deletes are found in the log where it is read, and by reconcile once it no longer is; soft stays soft. Safe to repeat.
-- This only notes it: "tidemark table capture" hands the table over from one reader to the other, and calls this.
-- Errors: TM002 unknown dimension; TM007 its changes are not ordered by capture, as those of the log are, or its mapping does not fit.
begin
    perform tidemark._assert_dimension_known(p_dimension_name);
    perform tidemark._lock_dimension(p_dimension_name, '');

    if p_capture <> 'poll' and exists (
        select from tidemark.dimensions as d where d.dimension_name = p_dimension_name and d.change_order <> 'capture'
    ) then
        raise exception using
            errcode = 'TM007',
            message = 'changes from the log go in the order of their capture only',
            detail = format('dimension=%s capture=%s change_order=effective_time', p_dimension_name, p_capture),
            hint = 'leave the table to polling, or register it anew with p_change_order => ''capture''';
    end if;

    update tidemark.dimensions as d
    set capture = p_capture,
        commit_times_from = case
            when p_capture <> 'poll' then greatest(
                d.commit_times_from,
                (select max(b.greatest_captured_at) from tidemark.batches as b where b.dimension_name = p_dimension_name)
            )
        end,
        deletes = case
            when p_capture = 'poll' and d.deletes = 'log' then 'reconcile'
            when p_capture <> 'poll' and d.deletes <> 'soft' then 'log'
            else d.deletes
        end
    where d.dimension_name = p_dimension_name;

    if p_capture <> 'poll' then
        perform tidemark._assert_dimension_fits(p_dimension_name);
    end if;
end;
$$;
