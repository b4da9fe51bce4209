import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { connect } from 'amqplib';
import { Relay } from '../runner/events/relay.js';
import { hasRabbit, startRabbit } from '../test/support/rabbitmq.js';
import { apply, beginAgain, documents } from './contenders.js';
import { processorTimes } from './processor.js';
import type { Scale, Scaled } from './scale.js';
import type { Bench } from './server.js';

/** A receiver of webhooks that reads what comes and takes it. */
async function startTaker(): Promise<{ url: string; close: () => void }> {
  const server = createServer((request, response) => {
    request.on('end', () => response.writeHead(204).end()).resume();
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return {
    url: `http://127.0.0.1:${String((server.address() as AddressInfo).port)}/`,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

/** So many events of orders: what it costs to note them, and how many a second one relay tells, by each transport. */
export async function manyEvents(bench: Bench, count: number, say: (line: string) => void): Promise<Scale> {
  const { warehouse } = bench;
  const figures: Scaled[] = [];
  const updates = async (state: number) => apply(warehouse, await documents(warehouse, count, state));
  await beginAgain(bench);
  say(`${String(count)} changes, without events and with them`);
  await updates(0);
  const [off, before] = [await updates(1), await updates(2)];
  await warehouse`select tidemark.publish_events('orders')`;
  const [first, on] = [await updates(3), await updates(4)];
  const cost = Math.min(first, on) / Math.min(off, before);
  figures.push({ name: 'changes in batches of 10,000, noted as events', value: cost, unit: 'x without' });
  const tell = async (name: string, transport: string, url: string) => {
    say(`${name}: ${String(2 * count)} events`);
    await warehouse`select tidemark.subscribe(${transport}, ${transport}, ${url}, p_from => 'oldest', p_secret => ${null})`;
    const relay = new Relay({ ...bench.settings, event_private_addresses: 'allow' });
    const began = performance.now();
    const told = (await relay.round(new AbortController().signal)).reduce((sum, { events }) => sum + events, 0);
    figures.push({ name, value: told / ((performance.now() - began) / 1000), unit: 'events a second' });
    const [{ pid }] = await warehouse<[{ pid: number }]>`
      select pid from pg_stat_activity where application_name = 'tidemark relay'`;
    const value = (await processorTimes([pid])) / told;
    figures.push({ name: `${name}: processor time in the warehouse`, value, unit: 'us an event' });
    await relay.close();
    await warehouse`select tidemark.unsubscribe(${transport})`;
  };
  const taker = await startTaker();
  await tell('webhooks, batches of 100', 'webhook', taker.url);
  taker.close();
  if (!hasRabbit()) return { figures, plans: [] };
  const broker = await startRabbit();
  const url = `amqp://127.0.0.1:${String(broker.port)}`;
  const connection = await connect(url);
  const channel = await connection.createChannel();
  for (const [kind, type] of [
    ['a classic queue', 'classic'],
    ['a quorum queue', 'quorum'],
  ] as const) {
    await channel.assertExchange('tidemark', 'topic', { durable: true });
    await channel.assertQueue(type, { durable: true, arguments: { 'x-queue-type': type } });
    await channel.bindQueue(type, 'tidemark', '#');
    await tell(`RabbitMQ, ${kind}`, 'rabbitmq', url);
    await channel.deleteQueue(type);
  }
  await connection.close();
  await broker.stop();
  return { figures, plans: [] };
}
