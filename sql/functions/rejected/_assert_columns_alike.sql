create or replace function tidemark._assert_columns_alike(
    p_batch tidemark.batches,
    p_changes json
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Looks at every change of a document that does not state its columns: each must have the columns that the others have.
-- Changes of one shape are looked at once.
-- Errors: TM004 where one of them has too many or too few; the caller then looks for those at fault.
begin
    if exists (
        select
        from (
            select distinct on (names, is_delete) s.change
            from (
                select e.change, (select array_agg(k.name) from json_object_keys(e.change) as k (name)) as names,
                    (e.change ->> 'operation_type') is not distinct from 'DELETE' as is_delete
                from json_array_elements(p_changes) as e (change)
                where json_typeof(e.change) = 'object'
            ) as s
        ) as o
        cross join lateral tidemark._column_faults(p_batch.dimension_name, o.change, p_batch.columns) as f
        where f.is_of_shape
    ) then
        raise exception using
            errcode = 'TM004',
            message = 'a change cannot be applied: its columns are not those of its batch',
            detail = format('table=%s batch=%s', p_batch.dimension_name, p_batch.batch_id);
    end if;
end;
$$;
