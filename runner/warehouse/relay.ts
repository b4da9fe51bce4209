import { action, rows, value, type Texts, type TextsOrNull } from './call.js';

/** What the relay asks of the warehouse, in its order. Positions stay text. */

/** Makes this session the relay, unless another one is. */
export const tryRelay = value<boolean, []>('try_relay()');

/** The subscriptions that are to be told of events now. */
export const dueSubscriptions = rows<DueSubscription, []>('due_subscriptions()');
export type DueSubscription = Texts<'subscription_name' | 'target' | 'told_since' | 'acknowledged' | 'last_position'> &
  TextsOrNull<'secret'>;

/** An event as the warehouse renders it, a CloudEvent, with what is needed to send it unread. Those of one `partition_key` arrive in their order. */
export type Event = Texts<'event_position' | 'dimension_name' | 'kind' | 'event_id' | 'partition_key' | 'event'>;

/** Moves the offset from where it was seen to what was taken, and returns what comes next; nothing where somebody else moved or paused it. */
export const nextEvents = rows<Event, [...Offset, limit: number]>(
  'next_events(p_subscription_name => $1, p_since => $2, p_from => $3, p_position => $4, p_limit => $5)',
);
/** A subscription, since when it is told, from where its offset moves, and to where. */
type Offset = [subscription: string, since: string, from: string, position: string];

/** Moves the offset of a subscription alone. */
export const acknowledgeEvents = action<Offset>(
  'acknowledge_events(p_subscription_name => $1, p_since => $2, p_from => $3, p_position => $4)',
);

/** Notes why a subscription could not be told; with the position of an event that it refuses, it is stopped there. */
export const noteDeliveryFault = action<[subscription: string, since: string, error: string, position: string | null]>(
  'note_delivery_fault(p_subscription_name => $1, p_since => $2, p_error => $3, p_position => $4)',
);
