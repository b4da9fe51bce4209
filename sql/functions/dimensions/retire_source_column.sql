create or replace function tidemark.retire_source_column(
    p_dimension_name text,
    p_source_column text,
    p_is_retired boolean default true
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Notes that the source no longer has a column: extraction stops asking for it, history keeps what it has, and batches that
-- were written while it was there still load. With p_is_retired false it is back. Safe to repeat.
-- Errors: TM002 unknown dimension; TM007 the column is not mapped, or history cannot do without it.
declare
    v_role text;
    v_required text;
begin
    perform tidemark._assert_dimension_known(p_dimension_name);
    perform tidemark._lock_dimension(p_dimension_name, '');

    with retired as (
        update tidemark.dimension_columns as c
        set retired_at = case when p_is_retired then coalesce(c.retired_at, transaction_timestamp()) end
        where c.dimension_name = p_dimension_name and c.source_column = p_source_column
        returning c.column_role
    )
    select r.column_role into v_role from retired as r order by r.column_role in ('business key', 'effective time') desc limit 1;

    select a.attname into v_required
    from tidemark.dimension_columns as c
    join tidemark.dimensions as d on d.dimension_name = c.dimension_name
    join pg_attribute as a on a.attrelid = d.history_relation and a.attname = c.history_column and a.attnotnull
    where c.dimension_name = p_dimension_name and c.source_column = p_source_column and c.column_role in ('tracked', 'untracked');

    if p_is_retired and exists (
        select from tidemark.dimensions as d where d.dimension_name = p_dimension_name and d.deleted_column = p_source_column
    ) then
        raise exception using
            errcode = 'TM007',
            message = 'the column marks deleted rows: without it nothing would find them',
            detail = format('dimension=%s column=%s', p_dimension_name, p_source_column),
            hint = 'say first how deletes are found from now on: tidemark.declare_deletes';
    end if;
    if v_role is null or v_role in ('business key', 'effective time') then
        raise exception using
            errcode = 'TM007',
            message = case
                when v_role is null then 'the column is not mapped to history'
                else 'history cannot do without the column'
            end,
            detail = format('dimension=%s column=%s role=%s', p_dimension_name, p_source_column, coalesce(v_role, '(none)')),
            hint = 'tracked and untracked columns and the insert time can be retired; else register the table anew, under another name';
    end if;
    if p_is_retired and v_required is not null then
        raise exception using
            errcode = 'TM007',
            message = format('history column %s is not null, but from now on nothing fills it', v_required),
            detail = format('dimension=%s column=%s', p_dimension_name, p_source_column),
            hint = 'let it take nulls first: alter table ... alter column ... drop not null';
    end if;
    perform tidemark.compile_dimension(p_dimension_name);
end;
$$;
