-- Gives a history table an exclusion constraint: no two versions of a key may be valid at one time. The check of
-- sql/checks/scd2 finds such versions afterwards; this constraint does not let them in. It needs the extension btree_gist.
-- Errors: TM007 where the extension cannot be had, a key has a type that GiST does not know, or versions overlap already.
create or replace function tidemark._forbid_overlap(
    p_dimension_name text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_statement text;
    v_reason text;
begin
    select format(
        'alter table %s add constraint %I exclude using gist (%s, %s(valid_from, valid_to) with &&)',
        d.history_relation, 'no_two_versions_of_' || d.dimension_name || '_overlap',
        string_agg(format('%I with =', c.history_column), ', ' order by c.ordinal),
        max(case when a.atttypid = 'timestamp'::regtype then 'tsrange' else 'tstzrange' end)
    )
    into v_statement
    from tidemark.dimensions as d
    join tidemark.dimension_columns as c on c.dimension_name = d.dimension_name and c.column_role = 'business key'
    join pg_attribute as a on a.attrelid = d.history_relation and a.attname = 'valid_from'
    where d.dimension_name = p_dimension_name
    group by d.history_relation, d.dimension_name;

    begin
        create extension if not exists btree_gist with schema public;
        execute v_statement;
    exception
        when undefined_file or feature_not_supported or insufficient_privilege or undefined_object or exclusion_violation then
            v_reason := sqlerrm;
    end;
    if v_reason is not null then
        raise exception using
            errcode = 'TM007',
            message = format('overlap cannot be forbidden: %s', v_reason),
            detail = format('dimension=%s', p_dimension_name),
            hint = 'install the extension btree_gist, or register without p_no_overlap';
    end if;
end;
$$;
