create or replace function tidemark.register_dimension(
    p_dimension_name text,
    p_source_schema text,
    p_source_table text,
    p_history_relation regclass,
    p_columns json,
    p_change_order text default 'capture',
    p_deletes text default null,
    p_source_time_zone text default 'UTC',
    p_no_overlap boolean default false,
    p_deleted_column text default null,
    p_deleted_values text[] default null,
    p_effective_time text default 'column',
    p_with_children boolean default false,
    p_key_is_asserted boolean default false,
    p_capture text default 'poll',
    p_distributed_by text default null
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Registers a history table and its mapping, so that apply_batch can write it and the checks can read it.
-- p_columns is a JSON array of {"source", "history", "role"}, in the order of the history table. p_no_overlap adds an exclusion
-- constraint that forbids versions which overlap, at twice the cost of a batch. tidemark.declare_deletes says what deletes may be; where
-- nothing is said they are none of a table that is polled, and log of one that is captured from the log (p_capture is log, or both).
-- p_effective_time is capture for a table that does not say when a row changed: versions are valid from the capture of their change. For
-- the log that is the commit, and commit may be said for it.
-- p_with_children: rows of tables that inherit from the source table are read with its own. p_key_is_asserted: the source need not keep
-- the key unique; then two rows of one key are looked for, and stop the table.
-- p_distributed_by is the key column of the history by whose hash Citus distributes it (create_distributed_table was called); null where it
-- is a table of this server.
-- Run once, from the migration that creates the history table. Locks the list of dimensions. Makes the views of all dimensions anew, but
-- where tidemark.views_later is on: "migrate", which may register many, does that once, afterwards.
-- Errors: TM007 the registration cannot work; the message says which column or rule.
begin
    lock table tidemark.dimensions in share row exclusive mode;

    if exists (select from tidemark.dimensions as d where d.dimension_name = p_dimension_name) then
        raise exception using
            errcode = 'TM007',
            message = 'dimension is already registered',
            detail = format('dimension=%s', p_dimension_name),
            hint = 'give the new dimension another name';
    end if;
    -- The names are read from as many files.
    if p_source_time_zone <> 'UTC' and not exists (select from pg_timezone_names as z where z.name = p_source_time_zone) then
        raise exception using
            errcode = 'TM007',
            message = 'source time zone is unknown',
            detail = format('dimension=%s source_time_zone=%s', p_dimension_name, p_source_time_zone),
            hint = 'use a name from pg_timezone_names, such as UTC or Europe/Berlin';
    end if;

    insert into tidemark.dimensions (
        dimension_name, source_schema, source_table, history_relation, change_order, effective_time, source_time_zone, no_overlap,
        with_children, key_is_asserted, distributed_by
    )
    values (
        p_dimension_name, p_source_schema, p_source_table, p_history_relation,
        p_change_order, case p_effective_time when 'commit' then 'capture' else p_effective_time end,
        p_source_time_zone, p_no_overlap, p_with_children, p_key_is_asserted,
        p_distributed_by
    );

    insert into tidemark.dimension_columns (dimension_name, ordinal, source_column, history_column, column_role)
    select p_dimension_name, c.ordinal, c.source, c.history, c.role
    from rows from (json_to_recordset(p_columns) as (source text, history text, role text))
        with ordinality as c (source, history, role, ordinal);

    perform tidemark._assert_dimension_fits(p_dimension_name);
    perform tidemark.declare_capture(p_dimension_name, p_capture);
    -- Compiles the dimension.
    perform tidemark.declare_deletes(
        p_dimension_name, coalesce(p_deletes, case p_capture when 'poll' then 'none' else 'log' end), p_deleted_column, p_deleted_values
    );
    if p_no_overlap then
        perform tidemark._forbid_overlap(p_dimension_name);
    end if;
    if current_setting('tidemark.views_later', true) is distinct from 'on' then
        perform tidemark._create_versions_view();
    end if;
end;
$$;

create or replace function tidemark._forbid_overlap(
    p_dimension_name text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Gives a history table an exclusion constraint: no two versions of a key may be valid at one time. The check of
-- sql/checks/scd2 finds such versions afterwards; this constraint does not let them in. It needs the extension btree_gist. A history
-- with partitions has one on each, as all versions of a key are in one, and partitioned tables can have none before PostgreSQL 17.
-- Errors: TM007 where the extension cannot be had, a key has a type that GiST does not know, or versions overlap already.
declare
    v_statement text;
    v_reason text;
begin
    begin
        create extension if not exists btree_gist with schema public;
        for v_statement in
            select format(
                'alter table %s add constraint %I exclude using gist (%s, %s(valid_from, valid_to) with &&)',
                h.part, tidemark._fit_name('no_two_versions_of_' || d.dimension_name, '_overlap' || h.ending),
                string_agg(format('%I with =', c.history_column), ', ' order by c.ordinal),
                max(case when a.atttypid = 'timestamp'::regtype then 'tsrange' else 'tstzrange' end)
            )
            from tidemark.dimensions as d
            cross join lateral (
                select p.part, case when p.part <> d.history_relation then '_p' || p.place - 1 else '' end as ending
                from tidemark._history_parts(d.history_relation) with ordinality as p (part, place)
            ) as h
            join tidemark.dimension_columns as c on c.dimension_name = d.dimension_name and c.column_role = 'business key'
            join pg_attribute as a on a.attrelid = d.history_relation and a.attname = 'valid_from'
            where d.dimension_name = p_dimension_name
            group by d.dimension_name, h.part, h.ending
        loop
            execute v_statement;
        end loop;
    exception
        when undefined_file or feature_not_supported or insufficient_privilege or undefined_object or exclusion_violation then
            v_reason := sqlerrm;
    end;
    if v_reason is not null then
        raise exception using
            errcode = 'TM007',
            message = format('overlap cannot be forbidden: %s', v_reason),
            detail = format('dimension=%s', p_dimension_name),
            hint = 'install the extension btree_gist, or register without p_no_overlap';
    end if;
end;
$$;
