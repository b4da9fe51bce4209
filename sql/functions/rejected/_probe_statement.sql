-- The statement that reads changes as tidemark._apply_statement does and writes nothing, written for a dimension: it gives the
-- places (from 1) of those that can be read and yet cannot stand in history by themselves, and raises an error at one that cannot
-- be read.
-- Parameters: $1 the changes (json array), $2 extracted_at of the batch.
create or replace function tidemark._probe_statement(
    p_dimension_name text
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
select tidemark._fill_template(
    $statement$
with change as materialized (
    select c.place::integer, c.cdc_operation, c.cdc_timestamp,
        coalesce(c.captured_at <> $2, false) as has_other_capture, not ({fits}) as would_be_rounded,
        {stored_values}
    from rows from (json_to_recordset($1) as (
        {read_as}, operation_type text, cdc_timestamp timestamptz, extracted_at timestamptz
    )) with ordinality as c ({values}, cdc_operation, cdc_timestamp, captured_at, place)
)
select coalesce(array_agg(c.place order by c.place), array[]::integer[])
from change as c
where c.cdc_operation is null or c.cdc_operation not in ('INSERT', 'UPDATE', 'DELETE')
    or c.cdc_timestamp is null or c.has_other_capture or c.would_be_rounded or {key_is_null}
    or (c.cdc_operation <> 'DELETE' and {cannot_stand})
    $statement$,
    tidemark._statement_fragments(p_dimension_name)
);
$$;
