create or replace function tidemark._fill_unchanged(
    p_batch tidemark.batches,
    p_changes json,
    p_lines integer []
)
returns json
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The changes of a batch of the log with the values that they leave out because their row kept them ("unchanged" names the columns): taken
-- from the change before it of that key, or of the key that the row had then ("unchanged_of"). That is one of these changes, or the last
-- in history that belongs before it in capture order, be it a version, absorbed, set aside among the rejected, or retracted: a batch
-- that was wrong for history tells all the same what the row had.
-- So each change is whole before it is applied, and what is loaded later alters no value of it. p_lines as in tidemark._fold_changes.
-- What history cannot tell stays named in "unchanged": such a change cannot be applied (tidemark._column_faults).
declare
    v_changes json [];
    v_line record;
    v_wanted json;
    v_state record;
    v_states json [];
begin
    select array_agg(e.change order by e.place) into v_changes from json_array_elements(p_changes) with ordinality as e (change, place);
    v_wanted := tidemark._kept_values(p_batch, p_changes, p_lines);
    for v_state in
        select s.place, s.state
        from json_array_elements(tidemark._states_before(p_batch, v_wanted)) as e (state)
        cross join lateral (select (e.state ->> 'place')::integer as place, e.state) as s
    loop
        v_states[v_state.place] := v_state.state;
    end loop;

    for v_line in
        select w.place, w.place_before
        from json_to_recordset(v_wanted) as w (place integer, place_before integer)
        order by w.place
    loop
        v_changes[v_line.place] := case
            when v_line.place_before is null then tidemark._with_kept_values(v_changes[v_line.place], v_states[v_line.place])
            else tidemark._with_kept_values(v_changes[v_line.place], json_build_object('change', v_changes[v_line.place_before]))
        end;
    end loop;
    return array_to_json(v_changes);
end;
$$;

create or replace function tidemark._kept_values(
    p_batch tidemark.batches,
    p_changes json,
    p_lines integer []
)
returns json
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The changes that leave out values, in their order, as an array of {"place", "place_before", "line", "captured_at", "key", "printed_key"}:
-- place among p_changes, that of the change before it of the key which its row had before (null where none of them is), its line in the
-- batch, its capture time as it came, that key by source column and as tidemark._printed_key has it.
-- A DELETE says no value, and is passed over: the old key of a row that took another one has one.
declare
    v_members text;
    v_wanted json;
begin
    select string_agg(format('%1$L, l.key -> %1$L', c.source_column), ', ' order by c.ordinal)
    into v_members
    from tidemark.dimension_columns as c
    where c.dimension_name = p_batch.dimension_name and c.column_role = 'business key';

    execute format(
        $query$
        with line as materialized (
            select e.place, e.change, %1$s as printed_key,
                (e.change ->> 'operation_type') is distinct from 'DELETE' as says_values,
                case when json_typeof(e.change -> 'unchanged') = 'array' then
                    case when json_typeof(e.change -> 'unchanged_of') = 'object' then e.change -> 'unchanged_of' else e.change end
                end as key
            from json_array_elements($1) with ordinality as e (change, place)
            where json_typeof(e.change) = 'object'
        ),
        asked as (
            select l.printed_key, l.place, l.place as says_values_at, null::json as key from line as l where l.says_values
            union all
            select %2$s, l.place, null, json_build_object(%3$s) from line as l where l.key is not null
        ),
        answered as (
            select a.*,
                max(a.says_values_at) over (
                    partition by a.printed_key order by a.place range between unbounded preceding and 1 preceding
                ) as place_before
            from asked as a
        )
        select json_agg(json_build_object(
            'place', a.place, 'place_before', a.place_before, 'line', coalesce($2[a.place::integer], a.place),
            'captured_at', l.change ->> 'extracted_at', 'key', a.key, 'printed_key', a.printed_key
        ) order by a.place)
        from answered as a
        join line as l using (place)
        where a.key is not null
        $query$,
        tidemark._printed_key_expression(p_batch.dimension_name, 'e.change'),
        tidemark._printed_key_expression(p_batch.dimension_name, 'l.key'),
        v_members
    )
    into v_wanted using p_changes, p_lines;
    return coalesce(v_wanted, '[]');
end;
$$;

create or replace function tidemark._states_before(
    p_batch tidemark.batches,
    p_wanted json
)
returns json
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The last change that history has of each key of p_wanted (tidemark._kept_values) before the place of the change that asks for it, in
-- capture order: an array of {"place", "change", "first_values", "columns"}, without those that history does not know.
-- change has its values by source column, first_values those that a version said first in its untracked columns; columns are those
-- that the change had, null where it says them itself. A DELETE by key alone is passed over. A key that cannot be read is not known.
-- Only where none of the changes that are applied comes before (place_before).
declare
    v_states json;
begin
    if json_array_length(p_wanted) = 0 then
        return '[]'::json;
    end if;
    execute tidemark._laid_out(
        $query$
        select json_agg(json_build_object(
            'place', w.place, 'change', l.change, 'first_values', l.first_values, 'columns', l.columns
        ))
        from json_to_recordset($1) as w (
            place integer, place_before integer, line integer, captured_at timestamptz, key json, printed_key text
        )
        cross join lateral (
            select coalesce(w.captured_at, $2) as captured_at, coalesce($3, 9223372036854775807) as sequence, $4 collate "C" as batch_id
        ) as o
        cross join lateral (
            select c.*, json_build_object({printed_key})::text as business_key
            from (select {stored_keys} from rows from (json_to_record(w.key) as ({read_keys_as})) as c ({keys})) as c
        ) as c
        cross join lateral (
            select s.*
            from (
                (
                    select h.captured_at, b.sequence, b.batch_id, h.change_line::integer as line, b.columns,
                        f.values_before as first_values,
                        (select row_to_json(r.*) from (select {printed} from (select h.*) as c) as r) as change
                    from {versions} as h
                    join tidemark.batches as b on b.dimension_name = {dimension} and b.batch_id = h.batch_id::text
                    left join tidemark.first_values as f on f.dimension_name = {dimension} and f.surrogate_key = h.surrogate_key
                    where {same_key: and}
                        and (h.captured_at, coalesce(b.sequence, 9223372036854775807), b.batch_id collate "C", h.change_line)
                            < (o.captured_at, o.sequence, o.batch_id, w.line)
                    order by h.valid_from desc
                    limit 1
                )
                union all
                (
                    select a.captured_at, b.sequence, a.batch_id, a.change_line, b.columns, null, a.change
                    from tidemark.absorbed_changes as a
                    join tidemark.batches as b on b.dimension_name = {dimension} and b.shard = a.shard and b.batch_id = a.batch_id
                    join tidemark.dimensions as d on d.dimension_name = {dimension}
                    where a.dimension_name = {dimension} and a.business_key = c.business_key and a.captured_at <= o.captured_at
                        and (a.cdc_operation <> 'DELETE' or (a.change ->> d.deleted_column) is not null)
                        and (a.captured_at, coalesce(b.sequence, 9223372036854775807), a.batch_id collate "C", a.change_line)
                            < (o.captured_at, o.sequence, o.batch_id, w.line)
                    order by a.captured_at desc, b.sequence desc, a.batch_id collate "C" desc, a.change_line desc
                    limit 1
                )
                union all
                (
                    select k.captured_at, b.sequence, r.batch_id, r.change_line, null, null, r.change
                    from tidemark.rejected_changes as r
                    join tidemark.batches as b on b.dimension_name = {dimension} and b.shard = r.shard and b.batch_id = r.batch_id
                    join tidemark.dimensions as d on d.dimension_name = {dimension}
                    cross join lateral (select tidemark._capture_time(r.change, b.extracted_at) as captured_at) as k
                    where r.dimension_name = {dimension} and r.business_key = w.printed_key
                        and ((r.change ->> 'operation_type') is distinct from 'DELETE' or (r.change ->> d.deleted_column) is not null)
                        and (k.captured_at, coalesce(b.sequence, 9223372036854775807), r.batch_id collate "C", r.change_line)
                            < (o.captured_at, o.sequence, o.batch_id, w.line)
                    order by k.captured_at desc, b.sequence desc, r.batch_id collate "C" desc, r.change_line desc
                    limit 1
                )
                union all
                (
                    select r.captured_at, b.sequence, r.batch_id, r.change_line,
                        case when r.rejected is null then b.columns end, null, r.change
                    from tidemark.retracted_changes as r
                    join tidemark.batches as b on b.dimension_name = {dimension} and b.shard = r.shard and b.batch_id = r.batch_id
                    join tidemark.dimensions as d on d.dimension_name = {dimension}
                    where r.dimension_name = {dimension} and r.business_key in (c.business_key, w.printed_key)
                        and ((r.change ->> 'operation_type') is distinct from 'DELETE' or (r.change ->> d.deleted_column) is not null)
                        and (r.captured_at, coalesce(b.sequence, 9223372036854775807), r.batch_id collate "C", r.change_line)
                            < (o.captured_at, o.sequence, o.batch_id, w.line)
                    order by r.captured_at desc, b.sequence desc, r.batch_id collate "C" desc, r.change_line desc
                    limit 1
                )
            ) as s
            order by s.captured_at desc, s.sequence desc, s.batch_id collate "C" desc, s.line desc
            limit 1
        ) as l
        where w.place_before is null
        $query$,
        tidemark._column_lists(p_batch.dimension_name)
    )
    into v_states using p_wanted, p_batch.extracted_at, p_batch.sequence, p_batch.batch_id;
    return coalesce(v_states, '[]');
exception
    when data_exception then
        return case
            when json_array_length(p_wanted) = 1 then '[]'
            else (
                select coalesce(json_agg(s.state), '[]')
                from json_array_elements(p_wanted) as w (asked)
                cross join lateral json_array_elements(tidemark._states_before(p_batch, json_build_array(w.asked))) as s (state)
            )
        end;
end;
$$;

create or replace function tidemark._with_kept_values(
    p_change json,
    p_state json
)
returns json
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
-- A change with the values that it left out, as far as the state before it (tidemark._states_before) tells them.
with kept as (
    select u.name, u.place,
        case when s.columns is null or u.name in (select c.name from json_array_elements_text(s.columns) as c (name))
            then coalesce(p_state -> 'first_values' -> u.name, p_state -> 'change' -> u.name)
        end as value
    from json_array_elements_text(p_change -> 'unchanged') with ordinality as u (name, place)
    cross join (
        select case when json_typeof(p_state -> 'columns') = 'array' then p_state -> 'columns' end as columns
    ) as s
),
unknown as (
    select json_agg(k.name order by k.place) as names
    from kept as k
    where k.value is null
)
select ('{' || string_agg(to_json(m.name) || ':' || m.value, ',' order by m.kind, m.place) || '}')::json
from (
    select 1 as kind, e.place, e.name, e.value::text
    from json_each(p_change) with ordinality as e (name, value, place)
    cross join unknown as n
    where e.name <> 'unchanged' and (e.name <> 'unchanged_of' or n.names is not null)
    union all
    select 2, k.place, k.name, k.value::text from kept as k where k.value is not null
    union all
    select 3, 1, 'unchanged', n.names::text from unknown as n where n.names is not null
) as m (kind, place, name, value);
$$;
