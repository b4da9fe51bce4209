-- A batch from before a rename at the source, with the names of today (tidemark._present_names): columns as it states them, and
-- its changes. Any other batch comes back as it was. p_history_columns is what the batch says of its names, null where nothing.
create or replace function tidemark._with_present_names(
    p_dimension_name text,
    p_history_columns json,
    p_extracted_at timestamptz,
    inout p_columns json,
    inout p_changes json
)
returns record
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_names text [];
    v_former text [];
    v_present text [];
begin
    if not exists (select from tidemark.former_column_names as f where f.dimension_name = p_dimension_name) then
        return;
    end if;
    -- A document from elsewhere does not state its columns: its first change that is no deletion shows them.
    v_names := case
        when p_columns is not null then array(select c.name from json_array_elements_text(p_columns) as c (name))
        else array(
            select k.name
            from (
                select e.change
                from json_array_elements(p_changes) with ordinality as e (change, place)
                where json_typeof(e.change) = 'object'
                order by (e.change ->> 'operation_type') is not distinct from 'DELETE', e.place
                limit 1
            ) as e
            cross join lateral json_object_keys(e.change) as k (name)
        )
    end;
    select n.former_names, n.present_names
    into v_former, v_present
    from tidemark._present_names(p_dimension_name, v_names, p_history_columns, p_extracted_at) as n;
    if v_former is null then
        return;
    end if;
    p_columns := (
        select json_agg(coalesce(v_present[array_position(v_former, c.name)], c.name) order by c.place)
        from json_array_elements_text(p_columns) with ordinality as c (name, place)
    );
    p_changes := (
        select json_agg(
            case when json_typeof(e.change) = 'object' then tidemark._rename_members(e.change, v_former, v_present) else e.change end
            order by e.place
        )
        from json_array_elements(p_changes) with ordinality as e (change, place)
    );
end;
$$;
