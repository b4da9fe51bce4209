create or replace function tidemark._assert_known(
    p_dimension_name text,
    p_known timestamptz
)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Whether it can be told what was known of a dimension at a moment: true, or an error.
-- Errors: TM028 changes that were known by then, and mattered then, may have been pruned.
declare
    v_since timestamptz := (select d.pruned_known_at from tidemark.dimensions as d where d.dimension_name = p_dimension_name);
begin
    if p_known < v_since then
        raise exception using
            errcode = 'TM028',
            message = 'what was known at that moment can no longer be told: it was pruned',
            detail = format('table=%s known=%s known_since=%s', p_dimension_name, p_known, v_since),
            hint = format(
                'ask for %s or later; "tidemark rebuild" brings back what was pruned, where all batch files are there', v_since
            );
    end if;
    return true;
end;
$$;
