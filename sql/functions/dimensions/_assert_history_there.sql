create or replace function tidemark._assert_history_there(
    p_dimension_name text
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Makes sure that the history table of a dimension is there, before it is asked for: who owns it may have dropped it by hand.
-- Errors: TM025 it is not.
begin
    if exists (
        select
        from tidemark.dimensions as d
        left join pg_class as c on c.oid = d.history_relation
        where d.dimension_name = p_dimension_name and c.oid is null
    ) then
        raise exception using
            errcode = 'TM025',
            message = 'the history table of the dimension is gone',
            detail = format('table=%s', p_dimension_name),
            hint = format('restore it from a backup, or give the dimension up: npx tidemark table remove %s', p_dimension_name);
    end if;
end;
$$;
