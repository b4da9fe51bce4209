create or replace function tidemark._content_columns(
    p_dimension_name text
)
returns text []
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The columns of a history table that follow from the change log: all mapped ones and Tidemark's own, but for the number of the
-- version and the clock of the warehouse (surrogate_key, created_at, updated_at). As quoted names, in the order of the table.
select array_agg(quote_ident(a.attname) order by a.attnum)
from tidemark.dimensions as d
join pg_attribute as a on a.attrelid = d.history_relation and a.attnum > 0 and not a.attisdropped
where d.dimension_name = p_dimension_name and (
    a.attname in ('valid_from', 'valid_to', 'is_current', 'cdc_operation', 'cdc_timestamp', 'batch_id', 'captured_at', 'change_line')
    or exists (
        select
        from tidemark.dimension_columns as c
        where c.dimension_name = d.dimension_name and c.history_column = a.attname
    )
);
$$;
