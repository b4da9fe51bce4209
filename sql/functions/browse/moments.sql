create or replace function tidemark.moments(
    p_texts text[],
    p_now timestamptz
)
returns json
language sql
stable
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
-- Moments as people write them, read together (tidemark._moment): in UTC where they name no zone, as the pages show times, which are of
-- tables of several sources; the empty text is null. Returns a list of texts in the same order.
-- Errors: invalid_parameter_value one is no moment.
select json_agg(m.moment::text order by m.place)
from (
    select t.place, case when btrim(t.given) <> '' then tidemark._moment(t.given, 'UTC', p_now) end as moment
    from unnest(p_texts) with ordinality as t (given, place)
) as m;
$$;
