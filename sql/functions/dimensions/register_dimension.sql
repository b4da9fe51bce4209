-- Registers a history table and its mapping, so that apply_batch can write it and the checks can read it.
-- p_columns is a JSON array of {"source", "history", "role"}, in the order of the history table. p_no_overlap adds an exclusion
-- constraint that forbids versions which overlap, at twice the cost of a batch. tidemark.declare_deletes says what deletes may be.
-- Run once, from the migration that creates the history table. Locks the list of dimensions.
-- Errors: TM007 the registration cannot work; the message says which column or rule.
create or replace function tidemark.register_dimension(
    p_dimension_name text,
    p_source_schema text,
    p_source_table text,
    p_history_relation regclass,
    p_columns json,
    p_change_order text default 'capture',
    p_deletes text default 'none',
    p_source_time_zone text default 'UTC',
    p_no_overlap boolean default false,
    p_deleted_column text default null,
    p_deleted_values text[] default null
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    lock table tidemark.dimensions in share row exclusive mode;

    if exists (select from tidemark.dimensions as d where d.dimension_name = p_dimension_name) then
        raise exception using
            errcode = 'TM007',
            message = 'dimension is already registered',
            detail = format('dimension=%s', p_dimension_name),
            hint = 'give the new dimension another name';
    end if;
    if not exists (select from pg_timezone_names as z where z.name = p_source_time_zone) then
        raise exception using
            errcode = 'TM007',
            message = 'source time zone is unknown',
            detail = format('dimension=%s source_time_zone=%s', p_dimension_name, p_source_time_zone),
            hint = 'use a name from pg_timezone_names, such as UTC or Europe/Berlin';
    end if;

    insert into tidemark.dimensions (
        dimension_name, source_schema, source_table, history_relation, change_order, source_time_zone, no_overlap
    )
    values (
        p_dimension_name, p_source_schema, p_source_table, p_history_relation,
        p_change_order, p_source_time_zone, p_no_overlap
    );

    insert into tidemark.dimension_columns (dimension_name, ordinal, source_column, history_column, column_role)
    select p_dimension_name, c.ordinal, c.source, c.history, c.role
    from rows from (json_to_recordset(p_columns) as (source text, history text, role text))
        with ordinality as c (source, history, role, ordinal);

    perform tidemark._assert_dimension_fits(p_dimension_name);
    perform tidemark.declare_deletes(p_dimension_name, p_deletes, p_deleted_column, p_deleted_values);
    if p_no_overlap then
        perform tidemark._forbid_overlap(p_dimension_name);
    end if;
    perform tidemark._create_versions_view();
end;
$$;
