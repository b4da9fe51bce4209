import { action, rows, value, type Texts, type TextsOrNull } from './call.js';

/** What the relay asks of the warehouse, in its order. Positions stay text. */

/** Makes this session the relay, unless another one is. */
export const tryRelay = value<boolean, []>('try_relay()');

/** The subscriptions that are to be told of events now. */
export const dueSubscriptions = rows<DueSubscription, []>('due_subscriptions()');
export type DueSubscription = Texts<'subscription_name' | 'target' | 'acknowledged' | 'last_position'> &
  TextsOrNull<'secret' | 'batch_end'>;

/** The first events that a subscription is to be told of after a position, up to another one where it is given. */
export const readSubscription = rows<
  Texts<'event_position' | 'dimension_name' | 'kind' | 'event_id' | 'partition_key' | 'event'>,
  [subscription: string, after: string, limit: number, until: string | null]
>('read_subscription(p_subscription_name => $1, p_after => $2, p_limit => $3, p_until => $4)');

/**
 * Moves the offset of a subscription from where it was seen to what was taken, and notes where the batch ends that is about to be sent; false
 * where the offset was moved by somebody else meanwhile.
 */
export const acknowledgeEvents = value<
  boolean,
  [subscription: string, position: string, from: string, batchEnd: string | null]
>('acknowledge_events(p_subscription_name => $1, p_position => $2, p_from => $3, p_batch_end => $4)');

/** Notes why a subscription could not be told; with the position of an event that it refuses, it is stopped there. */
export const noteDeliveryFault = action<[subscription: string, error: string, position: string | null]>(
  'note_delivery_fault(p_subscription_name => $1, p_error => $2, p_position => $3)',
);
