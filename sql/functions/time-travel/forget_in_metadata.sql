create or replace function tidemark.forget_in_metadata(
    p_forgetting_ids bigint [],
    p_metadata json
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The metadata of a batch, or of a checkpoint, with a token in the place of a forgotten key that they name as a place in the order of
-- extraction; null where they name none. A sweep that is not finished begins again: it cannot go on from a token.
-- p_forgetting_ids are forgettings of one table (tidemark.forgettings).
declare
    v_is_complete boolean := (p_metadata #>> '{sweep,complete}') is distinct from 'false';
    v_extracted_at timestamptz := (p_metadata ->> 'extracted_at')::timestamptz;
    v_token text [] := tidemark._token_of_place(p_forgetting_ids, v_extracted_at, p_metadata #> '{high_watermark,key}');
    v_is_named boolean := v_token is not null;
begin
    if v_is_named then
        p_metadata := tidemark._with_member(
            p_metadata, 'high_watermark',
            case
                when v_is_complete then tidemark._with_member(p_metadata -> 'high_watermark', 'key', to_json(v_token))
                else 'null'
            end
        );
    end if;
    if tidemark._token_of_place(p_forgetting_ids, v_extracted_at, p_metadata #> '{sweep,undated,after}') is not null then
        v_is_named := true;
        p_metadata := tidemark._with_member(
            p_metadata, 'sweep', tidemark._with_member(p_metadata -> 'sweep', 'undated', '{"after":null}')
        );
    end if;
    return case when v_is_named then p_metadata end;
end;
$$;

create or replace function tidemark._token_of_place(
    p_forgetting_ids bigint [],
    p_extracted_at timestamptz,
    p_place json
)
returns text []
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- What is to stand where the values of a place in the order of extraction are those of a forgotten key; null where they are not.
declare
    v_dimension text := (select f.dimension_name from tidemark.forgettings as f where f.forgetting_id = p_forgetting_ids[1]);
    v_token text [];
begin
    if json_typeof(p_place) is distinct from 'array' or json_array_length(p_place) <> (
        select count(*)
        from tidemark.dimension_columns as c
        where c.dimension_name = v_dimension and c.column_role = 'business key'
    ) then
        return null;
    end if;
    select f.token into v_token
    from tidemark._places_of_keys(
        p_forgetting_ids, p_extracted_at,
        json_build_array(tidemark._key_as_change(v_dimension, array(select e.value from json_array_elements_text(p_place) as e (value))))
    ) as p
    join tidemark.forgettings as f using (forgetting_id);
    return v_token;
end;
$$;
