create or replace function tidemark.note_delivery_fault(
    p_subscription_name text,
    p_error text,
    p_position bigint default null,
    p_since timestamptz default null
)
returns void
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
-- Notes what went wrong when a subscription was told of events. With p_position it refuses that event, whenever it is told: it is stopped,
-- which is an alert, until it is resumed (tidemark.pause_subscription) or the event skipped (tidemark.skip_event).
-- p_since is its told_since when it was asked for: one that was rewound since, or is another one of that name, is not at fault.
-- p_error is shown to whoever asks: without values of rows. Safe to repeat.
update tidemark.subscriptions as s
set last_error = left(p_error, 1000), last_error_at = clock_timestamp(),
    failed_position = coalesce(p_position, s.failed_position),
    batch_end = case when p_position is null then s.batch_end end
where s.subscription_name = p_subscription_name and s.told_since = coalesce(p_since, s.told_since);
$$;

revoke execute on function tidemark.note_delivery_fault (text, text, bigint, timestamptz) from public;
