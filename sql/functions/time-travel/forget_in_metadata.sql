create or replace function tidemark.forget_in_metadata(
    p_dimension_name text,
    p_key text [],
    p_token text,
    p_metadata json
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The metadata of a batch, or of a checkpoint, with a token in the place of a key that they name as a place in the order of
-- extraction; null where they do not. A sweep that is not finished begins again: it cannot go on from a token.
declare
    v_is_complete boolean := (p_metadata #>> '{sweep,complete}') is distinct from 'false';
    v_is_named boolean := false;
begin
    if tidemark._is_place_of_key(p_dimension_name, p_key, p_metadata #> '{high_watermark,key}') then
        v_is_named := true;
        p_metadata := tidemark._with_member(
            p_metadata, 'high_watermark',
            case
                when v_is_complete then tidemark._with_member(
                    p_metadata -> 'high_watermark', 'key', to_json(array_fill(p_token, array[cardinality(p_key)]))
                )
                else 'null'
            end
        );
    end if;
    if tidemark._is_place_of_key(p_dimension_name, p_key, p_metadata #> '{sweep,undated,after}') then
        v_is_named := true;
        p_metadata := tidemark._with_member(
            p_metadata, 'sweep', tidemark._with_member(p_metadata -> 'sweep', 'undated', '{"after":null}')
        );
    end if;
    return case when v_is_named then p_metadata end;
end;
$$;

create or replace function tidemark._is_place_of_key(
    p_dimension_name text,
    p_key text [],
    p_place json
)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Whether the values of a place in the order of extraction are those of a key.
select case
    when json_typeof(p_place) = 'array' and json_array_length(p_place) = cardinality(p_key) then tidemark._places_of_key(
        p_dimension_name, p_key,
        json_build_array(
            tidemark._key_as_change(p_dimension_name, array(select e.value from json_array_elements_text(p_place) as e (value)))
        )
    ) <> '{}'
    else false
end;
$$;
