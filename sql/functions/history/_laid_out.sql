create or replace function tidemark._laid_out(
    p_text text,
    p_parts jsonb
)
returns text
language plpgsql
immutable
strict
set search_path = pg_catalog, pg_temp
as $$
-- Writes SQL as by hand: each {name} of a text gives way to the part of that name. A part that is a list has commas between its members
-- ({name}), or "and", or "or" ({name: and}), and runs on over lines of some 120 characters. A line with a list that is empty is left out;
-- {name} at the very beginning of a line is there for that alone, as a condition.
-- What was put in is never searched again, so that a column called "{history}" does no harm.
-- The part "own" is the mark that Tidemark's own names begin with, where it must be longer than _ to tell them from the history's.
-- Errors: invalid_parameter_value a name without a part.
declare
    v_line text;
    v_token text;
    v_name text[];
    v_part jsonb;
    v_item text;
    v_is_first boolean;
    v_indent text;
    v_written text;
    v_width integer;
    v_lines text[] := array[]::text[];
begin
    if p_parts ->> 'own' <> '_' then
        p_text := regexp_replace(p_text, '(?<!tidemark\.)\m_(?=[a-z])', p_parts ->> 'own', 'g');
    end if;
    <<lines>>
    foreach v_line in array string_to_array(p_text, e'\n') loop
        if v_line !~ '\{[a-z]' then
            v_lines := v_lines || v_line;
            continue;
        end if;
        v_indent := substring(regexp_replace(v_line, '^\{[a-z_]+\}', '') from '^ *');
        v_indent := v_indent || case when v_line ~ '^ *\{' then '' else '    ' end;
        v_written := '';
        v_width := 0;
        for v_token in
            select m.part[1] from regexp_matches(v_line, '\{[a-z_]+(?:: (?:and|or))?\}|[^{]+|\{', 'g') as m (part)
        loop
            v_name := regexp_match(v_token, '^\{([a-z_]+)(?:: (and|or))?\}$');
            v_part := p_parts -> v_name[1];
            if v_name is not null and v_part is null then
                raise exception using errcode = 'invalid_parameter_value', message = format('there is no part called %s', v_name[1]);
            elsif v_name is null or jsonb_typeof(v_part) <> 'array' then
                v_token := case when v_name is null then v_token else p_parts ->> v_name[1] end;
                v_written := v_written || v_token;
                v_width := v_width + length(v_token);
                continue;
            elsif v_part = '[]' then
                continue lines;
            end if;
            v_is_first := true;
            for v_item in select i.item from jsonb_array_elements_text(v_part) as i (item) loop
                if not v_is_first then
                    v_written := v_written || case when v_name[2] is null then ',' else '' end;
                    v_item := case when v_name[2] is null then '' else v_name[2] || ' ' end || v_item;
                    if v_width + length(v_item) > 112 then
                        v_written := v_written || e'\n' || v_indent;
                        v_width := length(v_indent);
                    else
                        v_written := v_written || ' ';
                        v_width := v_width + 2;
                    end if;
                end if;
                v_written := v_written || v_item;
                v_width := v_width + length(v_item);
                v_is_first := false;
            end loop;
        end loop;
        v_lines := v_lines || v_written;
    end loop;
    return array_to_string(v_lines, e'\n');
end;
$$;
