create or replace function tidemark._split_changes(
    p_batch tidemark.batches,
    p_changes json,
    p_lines integer [],
    out good_changes json,
    out good_lines integer [],
    out bad json
)
returns record
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Tells the changes of a batch that can be applied from those that cannot. Runs only when a batch has already failed.
-- Changes of one shape are asked for their columns once. Halves what cannot be read until the bad ones stand alone, so that three
-- bad changes of ten thousand cost some forty probes; the others are judged in one statement each time.
-- Reads and writes no history: a change is good or bad by itself.
-- bad is a json array of {"change_line", "column_name", "value", "reason", "change"}; null where none is found.
declare
    v_probe text := tidemark._probe_statement(p_batch.dimension_name);
    v_changes json [];
    v_lines integer [];
    v_bad integer [] := '{}'::integer [];
    v_from integer [] := array[1];
    v_to integer [];
    v_first integer;
    v_last integer;
    v_found integer [];
    v_reasons jsonb := '{}'::jsonb;
begin
    with given as materialized (
        select e.change, e.place::integer as place,
            case when json_typeof(e.change) = 'object' then (
                select array_agg(k.name) from json_object_keys(e.change) as k (name)
            ) end as names,
            case when json_typeof(e.change) = 'object' then (e.change ->> 'operation_type') = 'DELETE' end as is_delete
        from json_array_elements(p_changes) with ordinality as e (change, place)
    ),
    unusable as (
        select o.names, o.is_delete
        from (select distinct on (g.names, g.is_delete) g.* from given as g where g.names is not null) as o
        where exists (
            select from tidemark._column_faults(p_batch.dimension_name, o.change, p_batch.columns) as f where f.is_of_shape
        )
    )
    select
        array_agg(case when g.names is null or u.names is not null then '{}' else g.change end order by g.place),
        array_agg(coalesce(p_lines[g.place], g.place) order by g.place)
    into v_changes, v_lines
    from given as g
    left join unusable as u on u.names = g.names and u.is_delete is not distinct from g.is_delete;

    v_to := array[coalesce(cardinality(v_changes), 0)];
    while cardinality(v_from) > 0 loop
        v_first := v_from[cardinality(v_from)];
        v_last := v_to[cardinality(v_to)];
        v_from := trim_array(v_from, 1);
        v_to := trim_array(v_to, 1);
        begin
            execute v_probe
            into v_found
            using (
                select coalesce(json_agg(e.change order by e.place), '[]')
                from unnest(v_changes[v_first:v_last]) with ordinality as e (change, place)
            );
            v_bad := v_bad || array(select f.place + v_first - 1 from unnest(v_found) as f (place));
        exception
            when data_exception or integrity_constraint_violation or invalid_parameter_value then
                if v_first < v_last then
                    v_from := v_from || array[v_first, (v_first + v_last) / 2 + 1];
                    v_to := v_to || array[(v_first + v_last) / 2, v_last];
                else
                    v_bad := v_bad || v_first;
                    v_reasons := v_reasons || jsonb_build_object(v_first::text, sqlerrm);
                end if;
        end;
    end loop;

    select
        coalesce(json_agg(e.change order by e.place) filter (where e.place <> all (v_bad)), '[]'),
        coalesce(array_agg(v_lines[e.place] order by e.place) filter (where e.place <> all (v_bad)), '{}')
    into good_changes, good_lines
    from json_array_elements(p_changes) with ordinality as e (change, place);

    select json_agg(json_build_object(
        'change_line', v_lines[e.place], 'column_name', f.column_name, 'value', f.value,
        'reason', coalesce(f.fault, v_reasons ->> e.place::text, 'it cannot be applied'), 'change', e.change
    ) order by e.place)
    into bad
    from json_array_elements(p_changes) with ordinality as e (change, place)
    cross join lateral tidemark._find_fault(p_batch.dimension_name, e.change, p_batch.columns) as f
    where e.place = any (v_bad);
end;
$$;

create or replace function tidemark._probe_statement(
    p_dimension_name text
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The statement that reads changes as the history functions do (tidemark._apply_body) and writes nothing, written for a dimension: it gives
-- the places (from 1) of those that can be read and yet cannot stand in history by themselves, and raises an error at one that cannot
-- be read.
-- Parameter: $1 the changes (json array).
select tidemark._laid_out(
    $statement$
with change as materialized (
    select
        c._place::integer as _place,
        c._operation, c._effective, c._extracted_at::timestamptz as _captured_at,
        c._extracted_at not like '____-__-__%' as _is_captured_oddly,
        not ({rounded: and}) as _is_rounded,
        {stored_values}
    from rows from (json_to_recordset($1) as (
        {read_as},
        operation_type text, cdc_timestamp timestamptz, extracted_at text
    )) with ordinality as c (
        {columns},
        _operation, _effective, _extracted_at, _place
    )
)
select coalesce(array_agg(c._place order by c._place), array[]::integer[])
from change as c
where c._operation is null or c._operation not in ('INSERT', 'UPDATE', 'DELETE')
    or c._is_captured_oddly or c._captured_at < '0001-01-01 00:00:00+00'
    or c._is_rounded{with_rounded}
    or {key_is_null: or}
    or (c._operation <> 'DELETE' and ({cannot_stand: or}))
    $statement$,
    tidemark._column_lists(p_dimension_name)
);
$$;

create or replace function tidemark._find_fault(
    p_dimension_name text,
    p_change json,
    p_columns text [],
    out column_name text,
    out value text,
    out fault text
)
returns record
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- What keeps one change from being applied: the column at fault, its value and the reason; nulls where nothing does.
-- The reading of each value is tried, because PostgreSQL 15 cannot say beforehand whether a text is valid for a type.
-- p_columns are those of its batch. Runs only on changes that are known to be bad, which are few.
declare
    v_is_delete boolean;
    v_value record;
    v_is_null boolean;
    v_fits boolean;
begin
    if json_typeof(p_change) is distinct from 'object' then
        fault := format('it is not an object but %s', coalesce(json_typeof(p_change), 'null'));
        return;
    end if;
    v_is_delete := (p_change ->> 'operation_type') is not distinct from 'DELETE';
    select f.column_name, f.fault
    into column_name, fault
    from tidemark._column_faults(p_dimension_name, p_change, p_columns) as f
    order by f.column_name
    limit 1;
    if found then
        value := p_change ->> column_name;
        return;
    end if;

    for v_value in
        select e.source_column, quote_ident(e.history_column) as history_column, e.read_type, e.stored, e.fits,
            e.column_role = 'business key'
                or (a.attnotnull and not v_is_delete and a.attidentity = '' and a.attgenerated = '') as is_required
        from tidemark._column_expressions(p_dimension_name) as e
        join tidemark.dimensions as d on d.dimension_name = p_dimension_name
        join pg_attribute as a on a.attrelid = d.history_relation and a.attname = e.history_column
        union all
        select t.name, 'time_read', 'timestamptz', 'c.time_read', 'true', false
        from (values ('cdc_timestamp'), ('extracted_at')) as t (name)
    loop
        column_name := v_value.source_column;
        value := p_change ->> column_name;
        begin
            execute format(
                'select (%s) is null as is_null, %s as fits from rows from (json_to_record($1) as (%I %s)) as c (%s)',
                v_value.stored, v_value.fits, v_value.source_column, v_value.read_type, v_value.history_column
            )
            into v_is_null, v_fits using p_change;
        exception
            when others then
                fault := sqlerrm;
                return;
        end;
        fault := case
            when v_value.is_required and v_is_null then format('%s is null or missing', column_name)
            when not v_fits then format('%s would be rounded', column_name)
        end;
        if fault is not null then
            return;
        end if;
    end loop;

    select f.column_name, f.fault into column_name, fault from tidemark._broken_rule(p_dimension_name, p_change) as f;
    if fault is null and (
        (p_change ->> 'extracted_at') not like '____-__-__%' or (p_change ->> 'extracted_at')::timestamptz < '0001-01-01 00:00:00+00'
    ) then
        column_name := 'extracted_at';
        fault := 'extracted_at is not an ISO 8601 instant';
    end if;
    value := p_change ->> column_name;
end;
$$;

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
-- The first check constraint of the history table that a change would break, whose values can all be read; nulls where none.
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
            execute tidemark._laid_out(
                $statement$
select not coalesce({rule}, true)
from (
    select {stored_values}
    from rows from (json_to_record($1) as ({read_as})) as c ({columns})
) as c
                $statement$,
                tidemark._column_lists(p_dimension_name) || jsonb_build_object('rule', v_rule.expression)
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
