create or replace function tidemark._forget_in_events(
    p_dimension_name text,
    p_business_key text
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Takes a key that is forgotten out of the events of a dimension, whether or not they are published still, and notes one that says so, for
-- subscriptions of the dimension. Reads the events whole: there is no index by key.
declare
    v_group bigint := nextval('tidemark.event_groups_group_id_seq');
begin
    update tidemark.events as e
    set business_key = null
    from tidemark.event_groups as g
    where e.business_key = p_business_key and g.group_id = e.group_id and g.dimension_name = p_dimension_name;

    insert into tidemark.events (group_id, place, kind, business_key, effective_at)
    select v_group, 1, 'forgotten', p_business_key, clock_timestamp()
    from tidemark.dimensions as d
    where d.dimension_name = p_dimension_name and (
        d.events_since is not null
        or exists (
            select from tidemark.subscriptions as s where s.dimensions is null or p_dimension_name = any (s.dimensions)
        )
    );
    perform tidemark._note_event_group(v_group, p_dimension_name, null);
    perform tidemark._forget_told_keys();
end;
$$;

create or replace function tidemark._note_event_group(
    p_group_id bigint,
    p_dimension_name text,
    p_batch_id text
)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Notes the events of a group that have been inserted as one; nothing where there are none.
insert into tidemark.event_groups (group_id, dimension_name, batch_id, event_count)
select p_group_id, p_dimension_name, p_batch_id, count(*)
from tidemark.events as e
where e.group_id = p_group_id
having count(*) > 0;
$$;
