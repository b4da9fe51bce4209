create or replace function tidemark.forget_in_batch(
    p_dimension_name text,
    p_key text [],
    p_token text,
    p_batch json
)
returns table (
    batch_metadata text,
    changes text,
    content_checksum text,
    forgotten_lines integer
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- What a batch document is to be without a key: its metadata, and its change lines, joined by comma and line break. No row where it
-- has nothing of the key. Reads and writes no table but the mapping.
-- The checksum stays, as the link of the chain; content_checksum is that of the lines that are left, and forgotten_lines numbers
-- those that are gone, so that each of the others has the number it had. A document from elsewhere, which states no checksum, gets
-- original_checksum.
-- Errors: TM029 a line of another key says that its row had this one before, and leaves out values that only that one has.
#variable_conflict use_column
declare
    v_metadata json := p_batch -> 'batch_metadata';
    v_changes json := p_batch -> 'changes';
    v_named json;
    v_gone integer [];
    v_lines integer [];
    v_left text;
begin
    v_named := (
        select n.p_changes
        from tidemark._with_present_names(
            p_dimension_name,
            case when json_typeof(v_metadata -> 'history_columns') = 'object' then v_metadata -> 'history_columns' end,
            (v_metadata ->> 'extracted_at')::timestamptz,
            case when v_metadata ->> 'checksum' is not null then v_metadata -> 'columns' end,
            v_changes
        ) as n
    );
    v_gone := tidemark._places_of_key(p_dimension_name, p_key, v_named);
    perform tidemark._assert_no_row_had_key(p_dimension_name, p_key, v_metadata ->> 'batch_id', v_named, v_gone);
    v_metadata := coalesce(tidemark.forget_in_metadata(p_dimension_name, p_key, p_token, v_metadata)::json, v_metadata);
    if cardinality(v_gone) = 0 and v_metadata::text = (p_batch ->> 'batch_metadata') then
        return;
    end if;

    select
        string_agg(translate(e.change::text, e'\r\n', '  '), e',\n' order by e.place) filter (where e.place <> all (v_gone)),
        array_agg(n.line order by e.place) filter (where e.place = any (v_gone))
    into v_left, v_lines
    from json_array_elements(v_changes) with ordinality as e (change, place)
    join unnest(tidemark._lines_left(v_metadata)) with ordinality as n (line, place) using (place);
    v_left := coalesce(v_left, '');
    content_checksum := tidemark.batch_checksum(format(e'[\n%s\n]', v_left)::json);
    if cardinality(v_gone) > 0 then
        if v_metadata ->> 'checksum' is null and v_metadata ->> 'original_checksum' is null then
            v_metadata := tidemark._with_member(v_metadata, 'original_checksum', to_json(tidemark.batch_checksum(v_changes)));
        end if;
        v_lines := array(
            select l.line
            from (
                select unnest(v_lines) as line
                union all
                select g.line::integer from json_array_elements_text(v_metadata -> 'forgotten_lines') as g (line)
            ) as l
            order by l.line
        );
        v_metadata := tidemark._with_member(v_metadata, 'format', '2');
        v_metadata := tidemark._with_member(v_metadata, 'content_checksum', to_json(content_checksum));
        v_metadata := tidemark._with_member(v_metadata, 'forgotten_lines', to_json(v_lines));
    end if;
    batch_metadata := v_metadata::text;
    changes := v_left;
    forgotten_lines := coalesce(json_array_length(v_metadata -> 'forgotten_lines'), 0);
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

create or replace function tidemark._assert_no_row_had_key(
    p_dimension_name text,
    p_key text [],
    p_batch_id text,
    p_changes json,
    p_gone integer []
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Errors: TM029 a change that stays takes values from the key that is to be forgotten: its row had that key before.
declare
    v_former json := (
        select json_agg(e.change -> 'unchanged_of')
        from json_array_elements(p_changes) with ordinality as e (change, place)
        where json_typeof(e.change) = 'object' and json_typeof(e.change -> 'unchanged_of') = 'object' and e.place <> all (p_gone)
    );
begin
    if v_former is not null and tidemark._places_of_key(p_dimension_name, p_key, v_former) <> '{}' then
        raise exception using
            errcode = 'TM029',
            message = 'the key cannot be forgotten before another one: its row took that key, and kept values',
            detail = format('table=%s batch=%s', p_dimension_name, p_batch_id),
            hint = 'forget the key that the row has now first: the line of the batch that has "unchanged_of" names it';
    end if;
end;
$$;
