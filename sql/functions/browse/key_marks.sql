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
-- at their effective time), rejected (waiting, when it was set aside), and retracted. The key of what is rejected is kept as it came, and
-- read here.
-- Errors: TM002 unknown dimension, TM020 another number of key columns; a value that its column cannot hold keeps its own.
declare
    v_key text;
begin
    perform tidemark._assert_key_fits(p_dimension_name, p_key);
    v_key := tidemark._asked_key(p_dimension_name, p_key);
    return query
    with unread as materialized (
        select s.*, row_number() over () as place, (
            select json_object_agg(c.source_column, s.business_key::json -> c.history_column)
            from tidemark.dimension_columns as c
            where c.dimension_name = p_dimension_name and c.column_role = 'business key'
        ) as change
        from (
            select 'rejected' as kind, r.rejected_at as marked_at, r.batch_id, r.change_line, r.business_key
            from tidemark.rejected_changes as r
            where r.dimension_name = p_dimension_name and r.dismissed_at is null and r.settled_at is null
            union all
            select 'retracted', t.captured_at, t.batch_id, t.change_line, t.business_key
            from tidemark.retracted_changes as t
            where t.dimension_name = p_dimension_name and t.cdc_operation is null
        ) as s
        where s.business_key is not null
    )
    select m.*
    from (
        select a.reason, coalesce(a.closed_at, a.cdc_timestamp), a.batch_id, a.change_line
        from tidemark.absorbed_changes as a
        where a.dimension_name = p_dimension_name and a.business_key = v_key
        union all
        select u.kind, u.marked_at, u.batch_id, u.change_line
        from tidemark._printed_keys(p_dimension_name, (select coalesce(json_agg(u.change order by u.place), '[]') from unread as u)) as k
        join unread as u using (place)
        where k.business_key = v_key
        union all
        select 'retracted', t.captured_at, t.batch_id, t.change_line
        from tidemark.retracted_changes as t
        where t.dimension_name = p_dimension_name and t.business_key = v_key and t.cdc_operation is not null
    ) as m (kind, marked_at, batch_id, change_line)
    order by m.marked_at desc, m.batch_id, m.change_line
    limit p_limit;
end;
$$;
