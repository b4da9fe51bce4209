-- The first check constraint of the history table that a change would break, whose values can all be read; nulls where none.
create or replace function tidemark._broken_rule(
    p_dimension_name text,
    p_change json,
    out column_name text,
    out fault text
)
returns record
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_rule record;
    v_is_broken boolean;
begin
    if (p_change ->> 'operation_type') = 'DELETE' then
        return;
    end if;
    for v_rule in
        select r.* from tidemark._history_rules(p_dimension_name) as r order by r.rule_name
    loop
        begin
            execute tidemark._fill_template(
                $statement$
select not coalesce(r.is_kept, true)
from (
    select ({rule}) as is_kept
    from (
        select {values_by_history}
        from (select {stored_values} from rows from (json_to_record($1) as ({read_as})) as c ({values})) as c
    ) as h
) as r
                $statement$,
                (tidemark._statement_fragments(p_dimension_name)::jsonb || jsonb_build_object('rule', v_rule.expression))::json
            )
            into v_is_broken using p_change;
            fault := case when v_is_broken then format('it violates check constraint "%s"', v_rule.rule_name) end;
        exception
            when others then
                fault := format('check constraint "%s" cannot be evaluated: %s', v_rule.rule_name, sqlerrm);
        end;
        if fault is not null then
            column_name := v_rule.source_column;
            return;
        end if;
    end loop;
end;
$$;
