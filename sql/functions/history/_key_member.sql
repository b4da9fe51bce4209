create or replace function tidemark._key_member(
    p_type_id oid,
    p_expression text
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- An expression as it goes into a printed business key: two values that are one key to an index print one text. A numeric loses
-- its trailing zeros, a float the sign of its zero, a char(n) its padding; other types print alike what they hold equal, and
-- those that do not are refused as keys by tidemark.dimension_faults. A domain is looked through.
select case tidemark._undomained_type(p_type_id, null)
    when 'numeric' then format('trim_scale(%s)', p_expression)
    when 'real' then format('%s + 0::real', p_expression)
    when 'double precision' then format('%s + 0::double precision', p_expression)
    when 'character' then format('%s::text', p_expression)
    when 'bpchar' then format('%s::text', p_expression)
    else p_expression
end;
$$;
