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
-- Moments as people write them, read together: any timestamp that PostgreSQL reads, in UTC where it names no zone, "now", and what begins
-- with - or + counts from p_now (-5 minutes); the empty text is null. Returns a list of texts in the same order.
-- Errors: 22007 or 22008 one is no moment.
select json_agg(m.moment::text order by m.place)
from (
    select t.place, case
        when t.given = 'now' then p_now
        when t.given ~ '^[-+]\s*\d+ *[a-z]' then p_now + t.given::interval
        else nullif(t.given, '')::timestamptz
    end as moment
    from unnest(p_texts) with ordinality as t (given, place)
) as m;
$$;
