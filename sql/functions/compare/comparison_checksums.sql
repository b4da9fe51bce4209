create or replace function tidemark.comparison_checksums(
    p_dimension_name text,
    p_buckets integer
)
returns table (
    bucket integer,
    row_count bigint,
    checksum text
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
-- Checksums of the versions in force of a dimension: one row a bucket of keys, by the hash of the key (p_buckets is a power of 2).
-- Buckets whose count and checksum agree with those of the source hold the same rows, and nothing more need be read of them.
#variable_conflict use_column
begin
    return query execute format(
        'select (hashtextextended(v.key, 0) & ($1 - 1))::integer, count(*), '
            || 'format(''%%s %%s'', bit_xor(hashtextextended(v.content, 1)), bit_xor(hashtextextended(v.content, 2))) '
            || 'from (%s) as v group by 1',
        tidemark._comparison_query(p_dimension_name)
    )
    using p_buckets;
end;
$$;
