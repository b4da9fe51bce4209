create or replace function tidemark.mask_column(
    p_dimension_name text,
    p_column_name text,
    p_is_masked boolean default true
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Masks a column of a history, or no longer: the statements of tidemark.grant_statements leave it out of what the analyst may read, with
-- everything else in which its values stand. It takes effect when those were run again (npx tidemark grants --apply). Safe to repeat.
-- Key and times cannot be masked: without them no version can be told from another. Events are without it at once.
-- Errors: TM002 unknown dimension, 42703 it has no such column, 0A000 a column that cannot be masked, TM007 as tidemark.compile_dimension.
declare
    v_role text;
begin
    perform tidemark._assert_dimension_known(p_dimension_name);
    update tidemark.dimension_columns as c
    set masked_at = case when p_is_masked then coalesce(c.masked_at, transaction_timestamp()) end
    where c.dimension_name = p_dimension_name and c.history_column = p_column_name
    returning c.column_role into v_role;
    if v_role is null then
        raise exception using
            errcode = '42703',
            message = 'the history has no such column',
            detail = format('dimension=%s column=%s', p_dimension_name, p_column_name),
            hint = 'name a column of the history, as tidemark.browse_columns lists them';
    elsif v_role not in ('tracked', 'untracked') then
        raise exception using
            errcode = '0A000',
            message = 'a key or a time cannot be masked',
            detail = format('dimension=%s column=%s', p_dimension_name, p_column_name),
            hint = 'mask tracked and untracked columns; of a key that tells too much, map a hash instead';
    end if;
    perform tidemark.compile_dimension(p_dimension_name);
end;
$$;
