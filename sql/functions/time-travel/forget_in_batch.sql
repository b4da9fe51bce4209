create or replace function tidemark.forget_in_batch(
    p_forgetting_ids bigint [],
    p_batch json
)
returns table (
    batch_metadata text,
    changes text,
    content_checksum text,
    forgotten_lines integer,
    forgetting_ids bigint [],
    captured_until timestamptz
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- What a batch document is to be without forgotten keys: its metadata, and its change lines, joined by comma and line break. No row where
-- it has nothing of them. p_forgetting_ids are forgettings of one table (tidemark.forgettings). Writes nothing.
-- The checksum stays, as the link of the chain; content_checksum is that of the lines that are left, and forgotten_lines numbers
-- those that are gone, so that each of the others has the number it had. A document from elsewhere, which states no checksum, gets
-- original_checksum. Where versions stay as shells, so do the lines that opened and ended them, without values; shells numbers these.
-- forgetting_ids are those that it had lines of, captured_until is when the last of these lines was captured.
-- Errors: TM029 a line of another key says that its row had this one before, and leaves out values that only that one has.
#variable_conflict use_column
declare
    v_dimension text := (select f.dimension_name from tidemark.forgettings as f where f.forgetting_id = p_forgetting_ids[1]);
    v_metadata json := p_batch -> 'batch_metadata';
    v_changes json := p_batch -> 'changes';
    v_extracted_at timestamptz := (v_metadata ->> 'extracted_at')::timestamptz;
    v_named json;
    v_places integer [];
    v_ids bigint [];
    v_kept json;
    v_lines integer [];
    v_shells integer [];
    v_left text;
begin
    v_named := (
        select coalesce(n.renamed_changes, v_changes)
        from tidemark._with_present_names(
            v_dimension,
            case when json_typeof(v_metadata -> 'history_columns') = 'object' then v_metadata -> 'history_columns' end,
            v_extracted_at,
            case when v_metadata ->> 'checksum' is not null then v_metadata -> 'columns' end,
            v_changes
        ) as n
    );
    select coalesce(array_agg(p.place), '{}'), coalesce(array_agg(p.forgetting_id), '{}') into v_places, v_ids
    from tidemark._places_of_keys(p_forgetting_ids, v_extracted_at, v_named) as p;
    perform tidemark._assert_no_row_had_key(p_forgetting_ids, v_metadata, v_named, v_places);
    v_kept := tidemark._shells_of_lines(v_metadata, v_changes, v_named, v_places, v_ids);
    v_metadata := coalesce(tidemark.forget_in_metadata(p_forgetting_ids, v_metadata)::json, v_metadata);
    if cardinality(v_places) = 0 and v_metadata::text = (p_batch ->> 'batch_metadata') then
        return;
    end if;

    select
        string_agg(
            translate(coalesce(v_kept ->> e.place::text, e.change::text), e'\r\n', '  '), e',\n' order by e.place
        ) filter (where w.is_left),
        array_agg(n.line order by e.place) filter (where not w.is_left),
        array_agg(n.line order by e.place) filter (where v_kept ->> e.place::text is not null)
    into v_left, v_lines, v_shells
    from json_array_elements(v_changes) with ordinality as e (change, place)
    join unnest(tidemark._lines_left(v_metadata)) with ordinality as n (line, place) using (place)
    cross join lateral (select e.place <> all (v_places) or v_kept ->> e.place::text is not null as is_left) as w;
    v_left := coalesce(v_left, '');
    content_checksum := tidemark.batch_checksum(format(e'[\n%s\n]', v_left)::json);
    if cardinality(v_places) > 0 then
        if v_metadata ->> 'checksum' is null and v_metadata ->> 'original_checksum' is null then
            v_metadata := tidemark._with_member(v_metadata, 'original_checksum', to_json(tidemark.batch_checksum(v_changes)));
        end if;
        v_lines := tidemark._numbers_with(v_metadata -> 'forgotten_lines', v_lines, '{}');
        v_shells := tidemark._numbers_with(v_metadata -> 'shells', v_shells, v_lines);
        v_metadata := tidemark._with_member(v_metadata, 'format', '2');
        v_metadata := tidemark._with_member(v_metadata, 'content_checksum', to_json(content_checksum));
        v_metadata := tidemark._with_member(v_metadata, 'forgotten_lines', to_json(v_lines));
        v_metadata := tidemark._with_member(v_metadata, 'shells', to_json(v_shells));
    end if;
    batch_metadata := v_metadata::text;
    changes := v_left;
    forgotten_lines := coalesce(json_array_length(v_metadata -> 'forgotten_lines'), 0);
    forgetting_ids := array(select distinct g.forgetting_id from unnest(v_ids) as g (forgetting_id) order by g.forgetting_id);
    captured_until := (
        select max(tidemark._capture_time(v_changes -> (g.place - 1), v_extracted_at)) from unnest(v_places) as g (place)
    );
    return next;
end;
$$;

create or replace function tidemark._lines_left(
    p_metadata json
)
returns integer []
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- The lines that a batch has left of those it was captured with, by their numbers from 1.
select coalesce(array_agg(l.line order by l.line), '{}')
from generate_series(1, (p_metadata ->> 'change_count')::integer) as l (line)
where l.line not in (select g.line::integer from json_array_elements_text(p_metadata -> 'forgotten_lines') as g (line));
$$;

create or replace function tidemark._numbers_with(
    p_stated json,
    p_more integer [],
    p_without integer []
)
returns integer []
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
-- The line numbers that metadata state, with some more and without others, in their order.
select coalesce(array_agg(distinct n.line order by n.line), '{}')
from (
    select s.line::integer from json_array_elements_text(p_stated) as s (line)
    union all
    select unnest(p_more)
) as n (line)
where n.line <> all (p_without);
$$;

create or replace function tidemark._shells_of_lines(
    p_metadata json,
    p_changes json,
    p_named json,
    p_places integer [],
    p_forgetting_ids bigint []
)
returns json
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- What is to stand in the place of those lines of forgotten keys that stay as shells, by their places among the changes: of forgettings
-- that keep shells, the lines that opened a version which history has, those that ended one, and DELETEs of a batch that is not loaded.
declare
    v_dimension text := (select f.dimension_name from tidemark.forgettings as f where f.forgetting_id = p_forgetting_ids[1]);
    v_shells json;
begin
    if not exists (select from tidemark.forgettings as f where f.forgetting_id = any (p_forgetting_ids) and f.keeps_shells) then
        return null;
    end if;
    execute tidemark._laid_out(
        $query$
        with gone as materialized (
            select m._place, n._line, f.token, $2 -> (m._place - 1) as _change, $3 -> (m._place - 1) as _named
            from unnest($4, $5) as m (_place, _id)
            join tidemark.forgettings as f on f.forgetting_id = m._id and f.keeps_shells
            join unnest(tidemark._lines_left($1)) with ordinality as n (_line, _number) on n._number = m._place
        ),
        of_key as (
            select {key_values}, g._place, g._line
            from gone as g
            cross join lateral (
                values (g._named), (tidemark._key_as_change({dimension}, g.token))
            ) as k (_key)
            cross join lateral (
                select {stored_keys} from rows from (json_to_record(k._key) as ({read_keys_as})) as c ({keys})
            ) as c
        ),
        ended as (
            select g._place
            from gone as g
            left join tidemark.batches as b
                on b.dimension_name = {dimension} and b.shard = coalesce($1 ->> 'shard', '') and b.batch_id = $1 ->> 'batch_id'
            left join tidemark.absorbed_changes as a
                on a.dimension_name = b.dimension_name and a.shard = b.shard and a.batch_id = b.batch_id and a.change_line = g._line
            where case when b.batch_id is null then g._change ->> 'operation_type' = 'DELETE' else a.reason = 'delete' end
        ),
        stays as (
            select c._place, false as _is_end
            from of_key as c
            where exists (
                select from {versions} as h where {same_key: and} and h.batch_id::text = $1 ->> 'batch_id' and h.change_line = c._line
            )
            union
            select e._place, true from ended as e
        )
        select json_object_agg(g._place, tidemark._shell_line(g._line, g._change, g._named, k._key, s._is_end))
        from gone as g
        join stays as s using (_place)
        cross join lateral (
            select row_to_json(r.*) as _key
            from (
                select {printed_keys}
                from (
                    select {stored_keys}
                    from rows from (json_to_record(tidemark._key_as_change({dimension}, g.token)) as ({read_keys_as})) as c ({keys})
                ) as c
            ) as r
        ) as k
        $query$,
        tidemark._column_lists(v_dimension)
    )
    into v_shells using p_metadata, p_changes, p_named, p_places, p_forgetting_ids;
    return v_shells;
end;
$$;

create or replace function tidemark._shell_line(
    p_line integer,
    p_change json,
    p_named json,
    p_key json,
    p_is_end boolean
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- A change line with its times and no values. "forgotten" is its number, so that each differs from its neighbours; the key is a token.
-- p_named is the change with the names of today, as p_key has them.
select format('{"forgotten":%s,', p_line) || string_agg(
    to_json(o.name)::text || ':' || case
        when o.name = 'operation_type' and p_is_end then '"DELETE"'
        when o.name in ('operation_type', 'cdc_timestamp', 'extracted_at') then o.value::text
        else coalesce((p_key -> n.name)::text, 'null')
    end,
    ',' order by o.place
) || '}'
from json_each(p_change) with ordinality as o (name, value, place)
join json_each(p_named) with ordinality as n (name, value, place) using (place)
where o.name not in ('unchanged', 'unchanged_of', 'unreadable') or json_typeof(o.value) not in ('array', 'object');
$$;

create or replace function tidemark._assert_no_row_had_key(
    p_forgetting_ids bigint [],
    p_metadata json,
    p_changes json,
    p_gone integer []
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Errors: TM029 a change that stays takes values from a key that is to be forgotten: its row had that key before.
declare
    v_former json := (
        select json_agg(e.change -> 'unchanged_of')
        from json_array_elements(p_changes) with ordinality as e (change, place)
        where json_typeof(e.change) = 'object' and json_typeof(e.change -> 'unchanged_of') = 'object' and e.place <> all (p_gone)
    );
begin
    if v_former is not null and exists (
        select from tidemark._places_of_keys(p_forgetting_ids, (p_metadata ->> 'extracted_at')::timestamptz, v_former)
    ) then
        raise exception using
            errcode = 'TM029',
            message = 'the key cannot be forgotten before another one: its row took that key, and kept values',
            detail = format('table=%s batch=%s', p_metadata ->> 'table', p_metadata ->> 'batch_id'),
            hint = 'forget the key that the row has now first: the line of the batch that has "unchanged_of" names it';
    end if;
end;
$$;
