import { openRabbit } from './rabbitmq.js';
import { transportOf, type Target, type Transport } from './transport.js';
import { openWebhook } from './webhook.js';

/** Opens the way to a target; it connects when there is something to publish. */
export const openTransport = (target: Target): Transport =>
  transportOf(target.url) === 'webhook' ? openWebhook(target) : openRabbit(target);
