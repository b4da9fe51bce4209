create or replace function tidemark.comparison_states(
    p_dimension_name text,
    p_keys json
)
returns table (
    key text,
    content text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
as $$
-- Key and content of the versions in force of some keys (p_keys: json array of keys, each as comparison_digests gives it).
#variable_conflict use_column
begin
    return query execute format(
        'select v.key, v.content from (%s) as v where v.key in (select w.key from json_array_elements_text($1) as w (key))',
        tidemark._comparison_query(p_dimension_name)
    )
    using p_keys;
end;
$$;
