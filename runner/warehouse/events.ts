import { action, rows, value, type Texts, type TextsOrNull } from './call.js';

/** Events of histories, and who is told of them. What the relay asks besides is in relay.ts. */

/** Publishes what happens to a history as events, or no longer. */
export const publishEvents = action<[table: string, isOn: boolean, type?: string]>(
  'publish_events(p_dimension_name => $1, p_is_on => $2, p_type => $3)',
);

/** Since when events of a table are published, and which ones are kept. */
export type EventTable = Texts<'dimension_name' | 'event_type' | 'kept_events'> &
  TextsOrNull<'events_since' | 'oldest_position' | 'newest_position'>;
/** Every dimension, with its events. */
export const eventTables = rows<EventTable, []>('event_tables()');

/** The JSON Schema of a table's events, as text. */
export const eventSchema = value<string>('event_schema(p_dimension_name => $1)');

/** Gives positions to the events that have none. Returns the last position. */
export const numberEvents = value<string, []>('number_events()');

/** The first events after a position, of some tables or all: each a CloudEvent in JSON. */
export const readEvents = rows<
  Texts<'event_position' | 'event'>,
  [after: string, limit: number, tables: readonly string[] | undefined]
>('read_events(p_after => $1, p_limit => $2, p_dimensions => $3)');

/** Begins a subscription. Returns the position after which it begins. */
export const subscribe = value<
  string,
  [...[name: string, transport: string, target: string, from: string], tables?: readonly string[], secret?: string]
>(
  'subscribe(p_subscription_name => $1, p_transport => $2, p_target => $3, p_from => $4, p_dimensions => $5, p_secret => $6)',
);

/** Ends a subscription. */
export const unsubscribe = action('unsubscribe(p_subscription_name => $1)');

/** Pauses a subscription. */
export const pauseSubscription = action('pause_subscription(p_subscription_name => $1, p_is_paused => true)');

/** Lets it go on. */
export const resumeSubscription = action('pause_subscription(p_subscription_name => $1, p_is_paused => false)');

/** Tells a subscription once more of what comes after a position, or since an instant. Returns its offset. */
export const rewindSubscription = value<string, [name: string, position: string | undefined, instant?: string]>(
  'rewind_subscription(p_subscription_name => $1, p_position => $2, p_instant => $3)',
);

/** Never tells a subscription of one event. */
export const skipEvent = action<[name: string, position: string, reason: string]>(
  'skip_event(p_subscription_name => $1, p_position => $2, p_reason => $3)',
);

/** A subscription and how it fares. */
export type SubscriptionStatus = Texts<
  'subscription_name' | 'transport' | 'target' | 'acknowledged' | 'last_position' | 'events_pending'
> & {
  readonly state: 'active' | 'paused' | 'failing';
  readonly dimensions: readonly string[] | null;
  readonly events_lag_seconds: number;
} & TextsOrNull<'failed_position' | 'last_error' | 'last_error_at' | 'acknowledged_at' | 'paused_by'>;
/** Every subscription. */
export const subscriptionStatus = rows<SubscriptionStatus, []>('subscription_status()');

/** Removes events that all subscriptions have and that are more than `days` days old. Returns how many there were. */
export const pruneEvents = value<string, [days: number]>('prune_events(p_retention_days => $1)');
