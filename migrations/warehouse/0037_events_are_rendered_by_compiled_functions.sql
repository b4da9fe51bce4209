-- Up Migration
-- Events are rendered by a function that is compiled for each dimension (tidemark.render_<dimension>), and the relay asks for what is next
-- and notes how far it is by one call: functions are written anew after migrations.

create type tidemark.rendered_event as (
    event_position bigint,
    dimension_name text,
    kind text,
    event_type text,
    event_id text,
    partition_key text,
    event text
);
comment on type tidemark.rendered_event is 'An event as a CloudEvent in JSON (event), with what is needed to send it without reading that.';

drop function if exists tidemark.read_events(bigint, integer, text []);
drop function if exists tidemark._read_events(bigint, integer, text [], text);
drop function if exists tidemark._event_query(tidemark.dimensions);
drop function if exists tidemark.read_subscription(text, bigint, integer, bigint);
drop function if exists tidemark.acknowledge_events(text, bigint, bigint, bigint);
drop function if exists tidemark.due_subscriptions();
