-- Makes tidemark.versions anew: every version of every dimension in one shape, which is what the checks read.
-- A time without zone appears as if it were UTC, so that all histories share one type. Called at each registration.
-- The view is replaced, not dropped, or it would lose what was granted on it: so every column has a type of its own.
create or replace function tidemark._create_versions_view()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_arms text;
begin
    select string_agg(
        format(
            $arm$
            select
                %1$L::text as dimension_name,
                json_build_object(%3$s)::text as business_key,
                h.surrogate_key::bigint as surrogate_key,
                h.valid_from%5$s as valid_from,
                h.valid_to%5$s as valid_to,
                h.is_current,
                h.cdc_operation::text collate "default" as cdc_operation,
                h.cdc_timestamp%5$s as cdc_timestamp,
                h.batch_id::text collate "default" as batch_id,
                h.change_line::integer as change_line,
                h.captured_at,
                row(%4$s)::text as tracked_values
            from %2$s as h
            $arm$,
            d.dimension_name, d.history_relation, m.key_pairs, m.tracked_columns, m.to_instant
        ),
        ' union all '
        order by d.dimension_name
    )
    into v_arms
    from tidemark.dimensions as d
    cross join lateral (
        select
            string_agg(
                format('%L, %s', c.history_column, tidemark._key_member(k.atttypid, format('h.%I', c.history_column))),
                ', ' order by c.ordinal
            ) filter (where c.column_role = 'business key') as key_pairs,
            string_agg(format('h.%I', c.history_column), ', ' order by c.ordinal)
                filter (where c.column_role = 'tracked') as tracked_columns,
            max(case when a.atttypid = 'timestamp'::regtype then ' at time zone ''UTC''' else '' end) as to_instant
        from tidemark.dimension_columns as c
        join pg_attribute as a on a.attrelid = d.history_relation and a.attname = 'valid_from'
        join pg_attribute as k on k.attrelid = d.history_relation and k.attname = c.history_column
        where c.dimension_name = d.dimension_name
    ) as m;

    if v_arms is null then
        perform tidemark._clear_versions_view();
    else
        execute 'create or replace view tidemark.versions as ' || v_arms;
    end if;

    comment on view tidemark.versions is 'Every version of every dimension in one shape; made by tidemark.register_dimension.';
    comment on column tidemark.versions.business_key is 'The key as a JSON object, by history column.';
    comment on column tidemark.versions.tracked_values is 'The tracked columns as PostgreSQL prints them; equal text is equal content.';
end;
$$;
