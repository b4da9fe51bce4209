create or replace function tidemark._assert_key_size(
    p_dimension_name text,
    p_columns text [],
    p_key text []
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Makes sure that a key that was asked for has a value for each column of the business key, p_columns, as whoever asks calls them.
-- Errors: TM020 it has more or fewer.
begin
    if cardinality(p_key) is distinct from cardinality(p_columns) then
        raise exception using
            errcode = 'TM020',
            message = 'the key does not fit the dimension',
            detail = format('dimension=%s key=%s', p_dimension_name, array_to_string(p_columns, ', ')),
            hint = 'give one value for each column of the business key, in that order';
    end if;
end;
$$;
