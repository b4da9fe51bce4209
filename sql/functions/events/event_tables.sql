create or replace function tidemark.event_tables()
returns table (
    dimension_name text,
    events_since timestamptz,
    event_type text,
    kept_events bigint,
    oldest_position bigint,
    newest_position bigint
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
-- Every dimension: since when its events are published (null: they are not), of which type they are, how many are kept, those without a
-- position included, and from which position to which.
select d.dimension_name, d.events_since, tidemark._event_type(d, '{kind}'),
    coalesce(sum(g.event_count), 0)::bigint, min(g.first_position), max(g.first_position + g.event_count - 1)
from tidemark.dimensions as d
left join tidemark.event_groups as g on g.dimension_name = d.dimension_name and g.subscription_name is null
group by d.dimension_name
order by d.dimension_name;
$$;

create or replace function tidemark._event_type(
    p_dimension tidemark.dimensions,
    p_kind text
)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
-- The type of events of a kind.
select replace(coalesce(p_dimension.event_type, 'tidemark.' || p_dimension.dimension_name || '.{kind}'), '{kind}', p_kind);
$$;
