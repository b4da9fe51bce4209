create or replace function tidemark._place_statement(
    p_dimension_name text
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The statement that gives versions their new times which tidemark._converge_statement has parked, written for a dimension.
-- Parameters: $1 a json array of {"version", "parked", "takes_effect", "ends"}. By now nothing else is where they belong.
select tidemark._fill_template(
    $statement$
update {history} as h
set valid_from = c.takes_effect{at_utc}, valid_to = c.ends{at_utc}, is_current = c.ends is null
from (
    select r.*, m.parked, m.takes_effect, m.ends
    from json_to_recordset($1) as m (version json, parked timestamptz, takes_effect timestamptz, ends timestamptz)
    cross join lateral (
        select {stored_values} from rows from (json_to_record(m.version) as ({read_as})) as c ({values})
    ) as r
) as c
where {key_matches} and h.valid_from = c.parked{at_utc}
    $statement$,
    tidemark._statement_fragments(p_dimension_name)
);
$$;
