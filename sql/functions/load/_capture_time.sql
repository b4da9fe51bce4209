create or replace function tidemark._capture_time(
    p_change json,
    p_extracted_at timestamptz
)
returns timestamptz
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
-- The capture time of one change as it came: its own extracted_at, or that of its batch (p_extracted_at) where it states none, or
-- one that no change can have. For a few changes: what reads a whole batch reads all times at once.
declare
    v_stated text := case when json_typeof(p_change) = 'object' then p_change ->> 'extracted_at' end;
    v_own timestamptz;
begin
    if v_stated like '____-__-__%' then
        v_own := v_stated::timestamptz;
    end if;
    return case when v_own >= '0001-01-01 00:00:00+00' then v_own else p_extracted_at end;
exception
    when data_exception then
        return p_extracted_at;
end;
$$;
