create or replace function tidemark._assert_dimension_fits(
    p_dimension_name text
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Proves that a registered mapping and its history table can serve apply_batch (tidemark.dimension_faults).
-- Errors: TM007, naming the first thing that does not fit.
declare
    v_fault text;
begin
    select f.fault into v_fault from tidemark.dimension_faults(p_dimension_name) as f order by f.place limit 1;

    if v_fault is not null then
        raise exception using
            errcode = 'TM007',
            message = v_fault,
            detail = format(
                'dimension=%s history=%s', p_dimension_name,
                (select d.history_relation from tidemark.dimensions as d where d.dimension_name = p_dimension_name)
            ),
            hint = 'correct the migration that registers the dimension, then migrate again';
    end if;
end;
$$;
