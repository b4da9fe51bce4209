import { UsageError, type TidemarkError } from '../base/errors.js';
import type { Event } from '../warehouse/relay.js';

/** Why not all were taken. */
export interface Fault {
  readonly error: TidemarkError;
  /** The receiver is there, and will not have this one event, or none ever again: nothing helps but a person. Any other fault may pass. */
  readonly isFinal: boolean;
  /** In how many seconds the receiver wants to be asked again. */
  readonly retry_seconds?: number | undefined;
}

/** How many events were taken, counted from the first without a gap, and why the rest was not. Of the rest some may have been taken, too. */
export type Outcome = Readonly<{ taken: number; fault?: Fault | undefined }>;

/** A way to a receiver. */
export interface Transport {
  /** Most events that travel together. */
  readonly most: number;
  /** Gives the events to the receiver, and waits until it has them. The same events given again travel under the same names. */
  readonly publish: (events: readonly Event[]) => Promise<Outcome>;
  readonly close: () => Promise<void>;
}

/** Where events go, and what proves to the receiver who sends them. */
export interface Target {
  readonly url: string;
  /** The key that webhooks are signed with; the password for a broker, where its URL has none. */
  readonly secret: string | null;
  /** Whether a webhook may go to an address that is not of the public internet. */
  readonly mayBePrivate: boolean;
}

/** What an URL is the address of. @throws UsageError where no transport takes it */
export function transportOf(url: string): 'webhook' | 'rabbitmq' {
  const protocol = URL.canParse(url) ? new URL(url).protocol : '';
  if (/^https?:$/.test(protocol)) return 'webhook';
  if (/^amqps?:$/.test(protocol)) return 'rabbitmq';
  throw new UsageError('events cannot be sent there', {
    detail: URL.canParse(url) ? new URL(url).protocol : 'it is no URL',
    hint: 'give the URL of a webhook (https://...) or of a RabbitMQ server (amqps://user@host/vhost)',
  });
}
