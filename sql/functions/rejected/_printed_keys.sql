create or replace function tidemark._printed_keys(
    p_dimension_name text,
    p_changes json
)
returns table (
    place integer,
    business_key text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The keys of changes with the names of today, read and printed as tidemark.absorbed_changes has them, by the places of the changes from 1:
-- a key may be written in several ways. Where one cannot be read, halves are looked at by themselves: a change whose key is none has none.
declare
    v_half integer;
begin
    return query execute tidemark._laid_out(
        $query$
        select c._place::integer, json_build_object({printed_key})::text
        from (
            select {stored_keys}, c._place
            from rows from (json_to_recordset($1) as ({read_keys_as})) with ordinality as c ({keys}, _place)
        ) as c
        $query$,
        -- What tidemark._column_lists says of them, which works out much more.
        (
            select jsonb_build_object(
                'own', (
                    select '_' || coalesce(max(substring(o.history_column from '^_+')), '')
                    from tidemark.dimension_columns as o
                    where o.dimension_name = p_dimension_name
                ),
                'keys', jsonb_agg(quote_ident(e.history_column) order by e.ordinal),
                'read_keys_as', jsonb_agg(format('%I %s', e.source_column, e.read_type) order by e.ordinal),
                'stored_keys', jsonb_agg(format('%s as %I', e.stored, e.history_column) order by e.ordinal),
                'printed_key', jsonb_agg(
                    format('%L, %s', e.history_column, tidemark._key_member(a.atttypid, format('c.%I', e.history_column)))
                    order by e.ordinal
                )
            )
            from tidemark._column_expressions(p_dimension_name) as e
            join tidemark.dimensions as d on d.dimension_name = p_dimension_name
            join pg_attribute as a on a.attrelid = d.history_relation and a.attname = e.history_column
            where e.column_role = 'business key'
        )
    )
    using p_changes;
exception
    when data_exception or invalid_parameter_value then
        v_half := json_array_length(p_changes) / 2;
        if v_half > 0 then
            return query
            select k.place + h.skipped, k.business_key
            from (
                select case when e.place <= v_half then 0 else v_half end as skipped, json_agg(e.change order by e.place) as changes
                from json_array_elements(p_changes) with ordinality as e (change, place)
                group by 1
            ) as h
            cross join lateral tidemark._printed_keys(p_dimension_name, h.changes) as k;
        end if;
end;
$$;
