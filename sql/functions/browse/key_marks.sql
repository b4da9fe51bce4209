create or replace function tidemark.key_marks(
    p_dimension_name text,
    p_key text[],
    p_limit integer
)
returns table (
    kind text,
    marked_at timestamptz,
    batch_id text,
    change_line integer
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The changes of one key that opened no version, newest first: unchanged, delete, nothing to delete, superseded (tidemark.absorbed_changes,
-- at their effective time), rejected (waiting, when it was set aside), and retracted.
-- Errors: TM002 unknown dimension, TM020 another number of key columns; a value that its column cannot hold keeps its own.
declare
    v_key text;
begin
    perform tidemark._assert_key_fits(p_dimension_name, p_key);
    execute tidemark._laid_out('select json_build_object({key_pairs})::text', tidemark._browse_parts(p_dimension_name))
    into v_key using p_key;
    return query
    select m.*
    from (
        select a.reason, coalesce(a.closed_at, a.cdc_timestamp), a.batch_id, a.change_line
        from tidemark.absorbed_changes as a
        where a.dimension_name = p_dimension_name and a.business_key = v_key
        union all
        select 'rejected', r.rejected_at, r.batch_id, r.change_line
        from tidemark.rejected_changes as r
        where r.dimension_name = p_dimension_name and r.business_key = v_key and r.dismissed_at is null and r.settled_at is null
        union all
        select 'retracted', t.captured_at, t.batch_id, t.change_line
        from tidemark.retracted_changes as t
        where t.dimension_name = p_dimension_name and t.business_key = v_key
    ) as m (kind, marked_at, batch_id, change_line)
    order by m.marked_at desc, m.batch_id, m.change_line
    limit p_limit;
end;
$$;
