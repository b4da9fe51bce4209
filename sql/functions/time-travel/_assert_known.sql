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
-- Errors: TM023 a column was added to the history table by hand, so that the function which tells the history of a key returns too few;
-- TM028 changes that were known by then, and mattered then, may have been pruned.
declare
    v_since timestamptz := (select d.pruned_known_at from tidemark.dimensions as d where d.dimension_name = p_dimension_name);
    v_added text := (
        select string_agg(a.attname, ', ' order by a.attnum)
        from tidemark.dimensions as d
        join pg_proc as p on p.pronamespace = 'tidemark'::regnamespace and p.proname = tidemark._function_name('known', d.dimension_name)
        join pg_attribute as a on a.attrelid = d.history_relation and a.attnum > 0 and not a.attisdropped
        where d.dimension_name = p_dimension_name
            and strpos(translate(p.prosrc, e',\n', '  '), format('h.%I ', a.attname)) = 0
    );
begin
    if v_added is not null then
        raise exception using
            errcode = 'TM023',
            message = 'the history table or its mapping was altered since its functions were written',
            detail = format('table=%s columns=%s', p_dimension_name, v_added),
            hint = format('if that is meant: select tidemark.compile_dimension(%L)', p_dimension_name);
    end if;
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
