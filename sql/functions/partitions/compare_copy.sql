create or replace function tidemark.compare_copy(
    p_dimension_name text
)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Proves that the copy of a history (tidemark.begin_partitioning) is what the history is, as of one snapshot: their number of versions and
-- the sum of a digest of each, as it prints, but of those that are listed to be copied once more. Reads both tables whole.
-- Returns how many versions there are. Errors: TM033 they differ, or no copy was begun, or it can become none any more.
declare
    v_found record;
begin
    perform tidemark._assert_copy_good(p_dimension_name);
    execute tidemark._laid_out(
        $query$
        select a.versions, b.versions as copied, (a.versions, a.digest) is not distinct from (b.versions, b.digest) as is_equal
        from (
            select count(*) as versions, sum(hashtextextended(row({whole_version})::text, 0)::numeric) as digest
            from {history} as h
            where not exists (select from {changes} as c where {same_version: and})
        ) as a
        cross join (
            select count(*) as versions, sum(hashtextextended(row({whole_version})::text, 0)::numeric) as digest
            from {copy} as h
            where not exists (select from {changes} as c where {same_version: and})
        ) as b
        $query$,
        tidemark._copy_parts(p_dimension_name)
    )
    into v_found;
    if not v_found.is_equal then
        raise exception using
            errcode = 'TM033',
            message = 'the copy of the history is not what the history is',
            detail = format('table=%s versions=%s copied=%s', p_dimension_name, v_found.versions, v_found.copied),
            hint = 'the history is as it was, and the copy did not take its place: give it up and begin anew, and report it, '
                'unless somebody wrote to the copy';
    end if;
    update tidemark.partitionings as p set compared_at = clock_timestamp() where p.dimension_name = p_dimension_name;
    return v_found.versions;
end;
$$;
