-- Up Migration
-- Events are rendered by a function that is compiled for each dimension (tidemark.render_<dimension>), and the relay asks for what is next
-- and notes how far it is by one call; an event of OpenLineage is made by one, too. What may be a secret in a URL is shown
-- to nobody. Functions are written anew after migrations.

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
drop function if exists tidemark.lineage_datasets(text, text, text, text, text);

-- The table is small: written anew in a moment.
-- squawk-ignore adding-field-with-default
alter table tidemark.subscriptions add column shown_target text generated always as (regexp_replace(
    regexp_replace(regexp_replace(target, '[?#].*', '?***'), '^(https?://)[^/?]*@', '\1***@', 'i'), '^(\w+://[^:/?@]*):[^/?]*@', '\1:***@'
)) stored;
comment on column tidemark.subscriptions.shown_target is
    'The same for people: without a query, and without who a webhook is called as, which may be a secret.';

-- squawk-ignore adding-field-with-default
alter table tidemark.subscriptions add column told_since timestamptz not null default clock_timestamp();
comment on column tidemark.subscriptions.told_since is
    'When it began or was rewound: whoever tells it of what was asked for before moves its offset no more.';
drop function if exists tidemark.note_delivery_fault(text, text, bigint);
