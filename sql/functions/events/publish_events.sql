create or replace function tidemark.publish_events(
    p_dimension_name text,
    p_is_on boolean default true,
    p_type text default null
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
-- Publishes what happens to a history from now on, as events (tidemark.read_events), or no longer (p_is_on false): the functions of the
-- dimension are compiled with the statements that note them, or without. p_type is what type the events have, with {kind} in the place of
-- what happened: 'order_{kind}' for order_updated. Null keeps it; at first it is tidemark.<dimension>.{kind}.
-- Once it is off, events from before have no values any more, because nothing tells whether a version is still what it was then: see that
-- every subscription has them (tidemark.subscription_status). What happens meanwhile makes no event.
-- Safe to repeat. Waits for a loader of the dimension to end its batch.
-- Errors: TM002 unknown dimension, TM007 as tidemark.compile_dimension; 22023 a type without {kind}.
begin
    perform tidemark._assert_dimension_known(p_dimension_name);
    if p_type not like '%{kind}%' then
        raise exception using
            errcode = '22023',
            message = 'the type of events has no place for what happened',
            detail = format('dimension=%s type=%s', p_dimension_name, p_type),
            hint = 'write {kind} where it is to stand, as in order_{kind}';
    end if;
    perform tidemark._lock_dimension(p_dimension_name, '');
    update tidemark.dimensions as d
    set events_since = case when p_is_on then coalesce(d.events_since, clock_timestamp()) end,
        event_type = coalesce(p_type, d.event_type)
    where d.dimension_name = p_dimension_name;
    perform tidemark.compile_dimension(p_dimension_name);
end;
$$;
