create or replace function tidemark._as_of_text()
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
-- The text of <history>_as_of(p_moment), with the parts of tidemark._time_travel_parts.
select $text$
-- The version of every row that was in force at that moment{zone}. An untracked column has the last value that it had in the version,
-- which may be a later one than that of the moment.
-- Written by tidemark.compile_dimension.
select h.*
from {history} as h
where h.valid_from <= {moment} and (h.valid_to > {moment} or h.valid_to is null);
$text$;
$$;
