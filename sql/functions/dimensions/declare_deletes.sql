create or replace function tidemark.declare_deletes(
    p_dimension_name text,
    p_deletes text,
    p_deleted_column text default null,
    p_deleted_values text[] default null
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Says how deletes at the source of a dimension are found: none, reconcile, log (the table is captured from it), or soft: the source
-- keeps a deleted row and marks it, in p_deleted_column, with one of p_deleted_values (null: with anything that is not null). The column
-- is mapped, so that its rename, drop or change of type does not go by unseen. Safe to repeat. What was deleted before is closed by
-- reconcile --repair.
-- Errors: TM002 unknown dimension; TM007 the column cannot say it, and why.
declare
    v_role text;
    v_type regtype;
    v_fault text;
begin
    perform tidemark._assert_dimension_known(p_dimension_name);
    perform tidemark._lock_dimension(p_dimension_name, '');

    select c.column_role, a.atttypid::regtype into v_role, v_type
    from tidemark.dimension_columns as c
    join tidemark.dimensions as d on d.dimension_name = c.dimension_name
    left join pg_attribute as a on a.attrelid = d.history_relation and a.attname = c.history_column and not a.attisdropped
    where c.dimension_name = p_dimension_name and c.source_column = p_deleted_column and c.retired_at is null;

    v_fault := case
        when p_deletes <> 'soft' and (p_deleted_column is not null or p_deleted_values is not null)
            then 'a column that marks deleted rows goes with deletes soft only'
        when p_deletes = 'log' and not exists (
            select from tidemark.dimensions as d where d.dimension_name = p_dimension_name and d.capture <> 'poll'
        )
            then 'deletes log goes with a table that is captured from the log only'
        when p_deletes <> 'soft' then null
        when p_deleted_column is null then 'deletes soft needs the column that marks deleted rows'
        when coalesce(v_role, '') not in ('tracked', 'untracked')
            then 'the column that marks deleted rows must be mapped to history, tracked or untracked'
        when cardinality(p_deleted_values) = 0 or array_position(p_deleted_values, null) is not null
            then 'the values that mean deleted must be one or more, and none of them null'
        when p_deleted_values is null and v_type = 'boolean'::regtype
            then 'a boolean marks deleted rows with one of its values, not with both: say which'
    end;
    if v_fault is not null then
        raise exception using
            errcode = 'TM007',
            message = v_fault,
            detail = format(
                'dimension=%s deletes=%s deleted_column=%s deleted_values=%s',
                p_dimension_name, p_deletes, coalesce(p_deleted_column, '(none)'), coalesce(p_deleted_values::text, '(any)')
            ),
            hint = 'for instance p_deletes => ''soft'', p_deleted_column => ''status'', p_deleted_values => array[''deleted'']';
    end if;

    update tidemark.dimensions as d
    set deletes = p_deletes, deleted_column = p_deleted_column, deleted_values = p_deleted_values
    where d.dimension_name = p_dimension_name;
    perform tidemark.compile_dimension(p_dimension_name);
end;
$$;
