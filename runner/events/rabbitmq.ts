import type { ChannelModel, ConfirmChannel, connect as Connect } from 'amqplib';
import { TidemarkError, UsageError, hasCode } from '../base/errors.js';
import { within } from '../base/timeout.js';
import type { Event } from '../warehouse/relay.js';
import type { Outcome, Target, Transport } from './transport.js';

const EXCHANGE = 'tidemark';
/** A broker that confirms nothing for so long, as one that is out of memory or disk, is asked anew over another connection. */
const ANSWER_SECONDS = 20;
const HEARTBEAT_SECONDS = 10;

/** amqplib is needed by those alone who have a broker. */
async function client(): Promise<{ connect: typeof Connect }> {
  try {
    return (await import('amqplib')).default;
  } catch (error) {
    if (!hasCode(error, 'ERR_MODULE_NOT_FOUND')) throw error;
    throw new UsageError('the client of RabbitMQ is not installed', { hint: 'npm install amqplib', cause: error });
  }
}

interface Channel {
  readonly connection: ChannelModel;
  readonly channel: ConfirmChannel;
  /** Events that came back because no queue takes them, until they are confirmed. */
  readonly returned: Set<unknown>;
}

async function open({ url: given, secret }: Target): Promise<Channel> {
  const url = new URL(given);
  if (secret !== null && url.password === '') url.password = encodeURIComponent(secret);
  if (!url.searchParams.has('heartbeat')) url.searchParams.set('heartbeat', String(HEARTBEAT_SECONDS));
  const { connect } = await client();
  const connection = await connect(url.href, { timeout: ANSWER_SECONDS * 1000, noDelay: true });
  // What ends a connection or channel is heard by what waits for a confirmation.
  connection.on('error', () => undefined);
  try {
    const channel = await connection.createConfirmChannel();
    channel.on('error', () => undefined);
    const returned = new Set<unknown>();
    channel.on('return', ({ properties }) => returned.add(properties.messageId));
    await channel.assertExchange(EXCHANGE, 'topic', { durable: true });
    return { connection, channel, returned };
  } catch (error) {
    await quit(connection.close());
    throw error;
  }
}

/** Waits a moment for a connection to end: its broker may be gone, or silent. */
const quit = (ending: Promise<unknown>): Promise<unknown> => within(1, ending).catch(() => undefined);

class Unroutable extends Error {}

/** Gives one event to the broker. @throws where it does not confirm it, or no queue takes it */
const send = ({ channel, returned }: Channel, { event_id: messageId, dimension_name, kind, event }: Event) =>
  new Promise<void>((resolve, reject) => {
    const key = `${dimension_name}.${kind}`;
    const contentType = 'application/cloudevents+json; charset=utf-8';
    const properties = { persistent: true, mandatory: true, messageId, contentType };
    channel.publish(EXCHANGE, key, Buffer.from(event), properties, (error: Error | null) => {
      // A message that comes back does so before it is confirmed.
      if (returned.delete(messageId)) reject(new Unroutable(key));
      else if (error === null) resolve();
      else reject(error);
    });
  });

/** Sends events to the topic exchange of a RabbitMQ server, each as a message that is kept on its disk. */
export function openRabbit(target: Target): Transport {
  let opened: Promise<Channel> | undefined;
  const close = async () => {
    // One that is opened still is ended once it is.
    const ending = opened?.then(({ connection }) => connection.close());
    opened = undefined;
    await quit(ending ?? Promise.resolve());
  };
  const publish = async (events: readonly Event[]): Promise<Outcome> => {
    const confirmed = new Set<Event>();
    try {
      const channel = await within(ANSWER_SECONDS, (opened ??= open(target)));
      // Of a key one event at a time is on its way, and none after one that was not taken: a refusal that comes late must not break the order.
      const newest = new Map<string, Promise<unknown>>();
      const sending = events.map((event) => {
        const own = (newest.get(event.partition_key) ?? Promise.resolve())
          .then(() => within(ANSWER_SECONDS, send(channel, event)))
          .then(() => confirmed.add(event));
        newest.set(event.partition_key, own);
        return own;
      });
      await Promise.allSettled(sending);
      await Promise.all(sending);
      return { taken: events.length };
    } catch (error) {
      if (!(error instanceof Unroutable)) await close();
      const taken = events.findIndex((event) => !confirmed.has(event));
      return { taken, fault: { isFinal: false, error: explain(error, target) } };
    }
  };
  return { most: 500, publish, close };
}

function explain(error: unknown, { url }: Target): TidemarkError {
  if (error instanceof TidemarkError) return error;
  const { host, username } = new URL(url);
  const { message } = error as Error;
  const because = (said: string, hint: string) =>
    new TidemarkError(`${said} ${message}`, {
      detail: `broker ${host}`,
      hint: `${hint}; it is tried again`,
      cause: error,
    });
  if (error instanceof Unroutable)
    return because(
      'no queue takes what is published as',
      `bind a queue to the topic exchange ${EXCHANGE} with that routing key, or one that has it (#)`,
    );
  if (/ACCESS.REFUSED|403/.test(message))
    return because(
      `the broker refuses user ${username || 'guest'}:`,
      `let that user write to the exchange ${EXCHANGE} and configure it, and see that the password is right`,
    );
  return because('the broker does not take events:', 'see that it runs and that its URL is right');
}
