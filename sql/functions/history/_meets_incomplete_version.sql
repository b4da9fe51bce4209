create or replace function tidemark._meets_incomplete_version(
    p_dimension_name text,
    p_changes json
)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Whether a change of this batch meets, as its key's last version, one that came from a batch without some mapped column:
-- such a version takes the column's first value in place, which only tidemark._converge_statement knows how to do.
-- Asked only where a column may be missing at all; looks up one version a change.
declare
    v_meets boolean;
begin
    execute tidemark._fill_template(
        $statement$
select exists (
    select
    from (
        select {stored_values} from rows from (json_to_recordset($1) as ({read_as})) as c ({values})
    ) as c
    cross join lateral (
        select h.batch_id from {history} as h where {key_matches} order by h.valid_from desc limit 1
    ) as v
    join tidemark.batches as b on b.dimension_name = {dimension} and b.batch_id = v.batch_id::text
    where not b.columns @> $2
)
        $statement$,
        tidemark._statement_fragments(p_dimension_name)
    )
    into v_meets
    using p_changes, (
        select array_agg(c.source_column)
        from tidemark.dimension_columns as c
        where c.dimension_name = p_dimension_name and c.may_be_missing
    );
    return v_meets;
end;
$$;
