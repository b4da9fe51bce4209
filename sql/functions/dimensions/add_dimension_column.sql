create or replace function tidemark.add_dimension_column(
    p_dimension_name text,
    p_source text,
    p_history text,
    p_role text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Adds a column to the mapping of a registered dimension, once the history table has it (nullable: older versions have no value).
-- No version is written for it: a version captured without the column takes its first value in place.
-- Run once, from a migration, after "alter table ... add column". Locks the list of dimensions.
-- Errors: TM007 the mapping cannot work with it; the message says why.
begin
    perform tidemark._lock_dimension(p_dimension_name, '');
    lock table tidemark.dimensions in share row exclusive mode;
    if p_role not in ('tracked', 'untracked') then
        raise exception using
            errcode = 'TM007',
            message = format('a column cannot be added as %s', p_role),
            detail = format('dimension=%s column=%s', p_dimension_name, p_source),
            hint = 'add it as tracked or untracked; key and times are settled when a dimension is registered';
    end if;
    if exists (
        select
        from tidemark.dimensions as d
        join pg_attribute as a on a.attrelid = d.history_relation and a.attname = p_history
        where d.dimension_name = p_dimension_name and a.attnotnull
    ) then
        raise exception using
            errcode = 'TM007',
            message = format('history column %s is not null, but older versions have no value for it', p_history),
            detail = format('dimension=%s column=%s', p_dimension_name, p_source),
            hint = 'let it take nulls: alter table ... alter column ... drop not null';
    end if;

    insert into tidemark.dimension_columns (dimension_name, ordinal, source_column, history_column, column_role, may_be_missing)
    select p_dimension_name, max(c.ordinal) + 1, p_source, p_history, p_role, true
    from tidemark.dimension_columns as c
    where c.dimension_name = p_dimension_name;

    perform tidemark._assert_dimension_fits(p_dimension_name);
    perform tidemark.compile_dimension(p_dimension_name);
    perform tidemark._create_versions_view();
end;
$$;
