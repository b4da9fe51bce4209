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
-- Compares the history of a dimension with what its batches made of an empty one (tidemark.open_replay, replay_batch), row for row:
-- every column that follows from the change log, as PostgreSQL prints it. Returns the first p_limit rows that only one of them
-- has, by key and time, and how many there are in all. No row: they are the same.
-- Where batches were skipped (tidemark.skip_pruned), what happened to a key until then is not to be had from the change log: a key that
-- has a version, an absorbed or a retracted change of that time is left out.
declare
    v_skipped_until timestamptz := (
        select max(b.greatest_captured_at)
        from tidemark.batches as b
        where b.dimension_name = tidemark._replay_name(p_dimension_name) and b.metadata ->> 'is_pruned' = 'true'
    );
    v_columns text := array_to_string(tidemark._content_columns(p_dimension_name), ', ');
begin
    perform tidemark._replay_retractions(p_dimension_name);
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
        ),
        kept_before as (
            select a.business_key from tidemark.absorbed_changes as a where a.dimension_name = %6$L and a.captured_at <= $1
            union all
            select r.business_key from tidemark.retracted_changes as r where r.dimension_name = %6$L and r.captured_at <= $1
        ),
        known_before as (
            select json_build_array(%1$s)::text as business_key from %3$s as h where h.captured_at <= $1
            union
            select json_build_array(%1$s)::text from %3$s as h
            where json_build_object(%7$s)::text in (select a.business_key from kept_before as a)
            union
            select json_build_array(%1$s)::text from pg_temp.%4$I as h
            where json_build_object(%7$s)::text in (select a.business_key from kept_before as a)
        )
        select d.found_in, d.business_key, d.valid_from, d.version, count(*) over ()
        from difference as d
        where not exists (select from known_before as k where k.business_key = d.business_key)
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
        p_limit,
        p_dimension_name,
        tidemark._laid_out('{printed_stored_key}', tidemark._column_lists(p_dimension_name))
    )
    using v_skipped_until;
end;
$$;
