-- Tells the changes of a batch that can be applied from those that cannot. Runs only when a batch has already failed.
-- Changes of one shape are asked for their columns once. Halves what cannot be read until the bad ones stand alone, so that three
-- bad changes of ten thousand cost some forty probes; the others are judged in one statement each time.
-- Reads and writes no history: a change is good or bad by itself.
-- bad is a json array of {"change_line", "column_name", "value", "reason", "change"}; null where none is found.
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
            ), p_batch.extracted_at;
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
    cross join lateral tidemark._find_fault(p_batch.dimension_name, e.change, p_batch.extracted_at, p_batch.columns) as f
    where e.place = any (v_bad);
end;
$$;
