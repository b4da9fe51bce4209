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
    v_pieces text[];
    v_piece text;
    v_end integer;
    v_name text;
    v_between text;
    v_part jsonb;
    v_item text;
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
        if strpos(v_line, '{') = 0 then
            v_lines := v_lines || v_line;
            continue;
        end if;
        -- What follows each brace, but for the first piece, which precedes all. No regular expression, nor query, for each: there are many.
        v_pieces := string_to_array(v_line, '{');
        v_written := v_pieces[1];
        v_width := length(v_written);
        v_piece := case when v_written = '' then substr(v_pieces[2], strpos(v_pieces[2], '}') + 1) else v_written end;
        v_indent := repeat(' ', length(v_piece) - length(ltrim(v_piece)))
            || case when ltrim(v_written) = '' then '' else '    ' end;
        foreach v_piece in array v_pieces[2:] loop
            v_end := strpos(v_piece, '}');
            v_name := left(v_piece, greatest(v_end - 1, 0));
            v_between := split_part(v_name, ': ', 2);
            v_name := case when v_between in ('', 'and', 'or') then split_part(v_name, ': ', 1) else '' end;
            v_part := p_parts -> v_name;
            if v_part is null then
                if v_name ~ '^[a-z_]+$' then
                    raise exception using errcode = 'invalid_parameter_value', message = format('there is no part called %s', v_name);
                end if;
                v_item := '{' || v_piece;
                v_written := v_written || v_item;
                v_width := v_width + length(v_item);
                continue;
            elsif jsonb_typeof(v_part) <> 'array' then
                v_item := p_parts ->> v_name;
                v_written := v_written || v_item;
                v_width := v_width + length(v_item);
            elsif v_part = '[]' then
                continue lines;
            else
                for v_place in 0 .. jsonb_array_length(v_part) - 1 loop
                    v_item := v_part ->> v_place;
                    if v_place > 0 then
                        v_written := v_written || case v_between when '' then ',' else '' end;
                        v_item := case v_between when '' then '' else v_between || ' ' end || v_item;
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
                end loop;
            end if;
            v_piece := substr(v_piece, v_end + 1);
            v_written := v_written || v_piece;
            v_width := v_width + length(v_piece);
        end loop;
        v_lines := v_lines || v_written;
    end loop;
    return array_to_string(v_lines, e'\n');
end;
$$;
