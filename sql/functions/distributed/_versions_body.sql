create or replace function tidemark._versions_body(
    p_lists jsonb
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Writes the body of tidemark.versions_<dimension>, which asks a distributed history for the versions of a key ({versions} of
-- tidemark._column_lists).
select tidemark._laid_out($text$
-- The versions of a key of {name}, from the node that holds it. Citus plans this query, and looks into no other that calls it.
-- Written by tidemark.compile_dimension: change the mapping or the history, and compile it again, never this.
#variable_conflict use_column
begin
    return query select h.* from {history} as h where {same_as_arguments: and};
end;
$text$, p_lists || jsonb_build_object('same_as_arguments', (
    select jsonb_agg(format('h.%I = $%s', v.history_column, v.place) order by v.place)
    from tidemark._version_arguments(p_lists ->> 'dimension_name') as v
)));
$$;

create or replace function tidemark._version_arguments(
    p_dimension_name text
)
returns table (
    place bigint,
    history_column text,
    argument_name text,
    type_name text
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The arguments of tidemark.versions_<dimension>: p_value is that of the column which the history is distributed by, and then the others of
-- its key, in the order of the mapping.
select row_number() over (order by k.history_column <> d.distributed_by, k.place), k.history_column,
    case when k.history_column = d.distributed_by then 'p_value' else 'p_key_' || k.place end, k.type_name
from tidemark.dimensions as d
cross join lateral tidemark._key_arguments(d.dimension_name) as k
where d.dimension_name = p_dimension_name;
$$;
