create or replace function tidemark.comparison_digests(
    p_dimension_name text,
    p_buckets integer,
    p_wanted json
)
returns table (
    key text,
    digest text
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
-- Key and digest of every version in force that falls into one of the wanted buckets (p_wanted: json array of bucket numbers).
#variable_conflict use_column
begin
    return query execute format(
        'select v.key, format(''%%s %%s'', hashtextextended(v.content, 1), hashtextextended(v.content, 2)) from (%s) as v '
            || 'where (hashtextextended(v.key, 0) & ($1 - 1)) in (select w.bucket::bigint from json_array_elements_text($2) as w (bucket))',
        tidemark._comparison_query(p_dimension_name)
    )
    using p_buckets, p_wanted;
end;
$$;
