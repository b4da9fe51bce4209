import { UsageError } from '../base/errors.js';
import { openRabbit } from './rabbitmq.js';
import type { Target, Transport } from './transport.js';
import { openWebhook } from './webhook.js';

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

/** Opens the way to a target; it connects when there is something to publish. */
export const openTransport = (target: Target): Transport =>
  transportOf(target.url) === 'webhook' ? openWebhook(target) : openRabbit(target);
