-- Compares the history of a dimension with what its batches made of an empty one (tidemark.open_replay, replay_batch), row for row:
-- every column that follows from the change log, as PostgreSQL prints it. Returns the first p_limit rows that only one of them
-- has, by key and time, and how many there are in all. No row: they are the same.
create or replace function tidemark.compare_replay(
    p_dimension_name text,
    p_limit integer
)
returns table (
    found_in text,
    business_key text,
    valid_from text,
    version text,
    differences bigint
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_columns text := array_to_string(tidemark._content_columns(p_dimension_name), ', ');
begin
    return query execute format(
        $query$
        with live as (
            select json_build_array(%1$s)::text as business_key, h.valid_from::text, row(%2$s)::text as version from %3$s as h
        ),
        replayed as (
            select json_build_array(%1$s)::text as business_key, h.valid_from::text, row(%2$s)::text as version from pg_temp.%4$I as h
        ),
        difference as (
            select 'history only' as found_in, l.* from (table live except all table replayed) as l
            union all
            select 'change log only', r.* from (table replayed except all table live) as r
        )
        select d.found_in, d.business_key, d.valid_from, d.version, count(*) over ()
        from difference as d
        order by d.business_key, d.valid_from, d.found_in desc
        limit %5$s
        $query$,
        (
            select string_agg(quote_ident(c.history_column), ', ' order by c.ordinal)
            from tidemark.dimension_columns as c
            where c.dimension_name = p_dimension_name and c.column_role = 'business key'
        ),
        v_columns,
        (select d.history_relation from tidemark.dimensions as d where d.dimension_name = p_dimension_name),
        tidemark._replay_name(p_dimension_name),
        p_limit
    );
end;
$$;
