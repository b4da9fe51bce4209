create or replace function tidemark.retype_history_column(
    p_dimension_name text,
    p_history_column text,
    p_type text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Gives a history column another type, one that holds what it holds already and prints it the same: wider, or text.
-- Views that show the column are made anew, with what was granted on them and their comments (tidemark._retype_columns).
-- Rewrites the history table, which is locked meanwhile. Run once, from a migration.
-- Errors: TM002 unknown dimension; TM007 the column is not mapped, or a value would print otherwise; TM024 something depends on it that
-- cannot be made anew, a materialized view say.
declare
    v_history regclass;
    v_spoilt bigint;
begin
    perform tidemark._assert_dimension_known(p_dimension_name);
    perform tidemark._lock_dimension(p_dimension_name, '');

    select d.history_relation into v_history
    from tidemark.dimensions as d
    join tidemark.dimension_columns as c on c.dimension_name = d.dimension_name and c.history_column = p_history_column
    where d.dimension_name = p_dimension_name and c.column_role in ('business key', 'tracked', 'untracked');
    if v_history is null then
        raise exception using
            errcode = 'TM007',
            message = 'no source column is mapped to the history column',
            detail = format('dimension=%s column=%s', p_dimension_name, p_history_column),
            hint = 'tidemark.dimension_columns lists the mapping';
    end if;

    execute format('lock table %s in access exclusive mode', v_history);
    execute format(
        'select count(*) from %1$s as h where h.%2$I::text is distinct from h.%2$I::%3$s::text', v_history, p_history_column, p_type
    )
    into v_spoilt;
    if v_spoilt > 0 then
        raise exception using
            errcode = 'TM007',
            message = 'a value of history would not print the same in the new type',
            detail = format('dimension=%s column=%s type=%s versions=%s', p_dimension_name, p_history_column, p_type, v_spoilt),
            hint = 'choose a wider type; text holds everything as it is printed';
    end if;

    perform tidemark._retype_columns(p_dimension_name, jsonb_build_object(p_history_column, p_type), null, null);
end;
$$;
