import { connect, type Channel, type ChannelModel, type GetMessage } from 'amqplib';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { openTransport } from '../../runner/events/open.js';
import type { Outcome, Transport } from '../../runner/events/transport.js';
import type { Event } from '../../runner/warehouse/relay.js';
import { openProxy, type Proxy } from '../support/proxy.js';
import { hasRabbit, startRabbit, type Broker } from '../support/rabbitmq.js';
import { until } from '../support/wait.js';

const event = (position: number, key: string, kind = 'updated'): Event => ({
  event_position: String(position),
  event_id: `warehouse/orders/${String(position)}`,
  partition_key: key,
  dimension_name: 'orders',
  kind,
  event: JSON.stringify({ specversion: '1.0', position }),
});

describe.skipIf(!hasRabbit())('a RabbitMQ server', () => {
  let broker: Broker;
  let proxy: Proxy;
  let connection: ChannelModel;
  let channel: Channel;
  let rabbit: Transport;
  beforeAll(async () => {
    broker = await startRabbit();
    proxy = await openProxy('127.0.0.1', broker.port);
    connection = await connect(`amqp://127.0.0.1:${String(broker.port)}`);
    channel = await connection.createChannel();
    await channel.assertExchange('tidemark', 'topic', { durable: true });
    rabbit = openTransport({ url: `amqp://127.0.0.1:${String(proxy.port)}`, secret: null, mayBePrivate: true });
  });
  afterAll(async () => {
    await rabbit.close();
    await connection.close();
    await proxy.close();
    await broker.stop();
  });
  afterEach(async () => {
    await channel.deleteQueue('events');
  });

  const bind = async (options: object, ...keys: string[]) => {
    await channel.assertQueue('events', options);
    for (const key of keys) await channel.bindQueue('events', 'tidemark', key);
  };
  const arrived = async () => {
    const messages: GetMessage[] = [];
    for (;;) {
      const got = await channel.get('events', { noAck: true });
      if (got === false) return messages;
      messages.push(got);
    }
  };
  const positions = async () =>
    (await arrived()).map(({ content }) => (JSON.parse(content.toString()) as { position: number }).position);
  const told = ({ taken, fault }: Outcome) => ({ taken, isFinal: fault?.isFinal, message: fault?.error.message });

  test('is given each event by its routing key, to be kept on disk, under the name of the event', async () => {
    await bind({}, 'orders.*');
    const events = [event(1, 'a', 'created'), event(2, 'b'), event(3, 'a'), event(4, 'a', 'deleted')];
    expect(await rabbit.publish(events)).toEqual({ taken: 4 });
    const messages = await arrived();
    expect(messages.map(({ properties }) => properties.messageId as string).sort()).toEqual(
      events.map(({ event_id: id }) => id),
    );
    for (const { properties } of messages)
      expect(properties).toMatchObject({
        ...{ deliveryMode: 2, contentType: 'application/cloudevents+json; charset=utf-8' },
      });
    expect(messages.map(({ fields }) => fields.routingKey).sort()).toEqual(
      events.map(({ kind }) => `orders.${kind}`).sort(),
    );
  });

  test('gives back an event that no queue takes: no later one of its key is sent, and those before it are taken', async () => {
    await bind({}, 'orders.created', 'orders.deleted');
    const life = [event(1, 'a', 'created'), event(2, 'a', 'updated'), event(3, 'a', 'deleted')];
    expect(told(await rabbit.publish(life))).toEqual({
      ...{ taken: 1, isFinal: false },
      message: 'no queue takes what is published as orders.updated',
    });
    expect(await positions()).toEqual([1]);
    await bind({}, 'orders.updated');
    expect(await rabbit.publish(life.slice(1))).toEqual({ taken: 2 });
    expect(await positions()).toEqual([2, 3]);
  });

  test('that refuses an event gets it again, in its order, once it takes it', async () => {
    await bind({ maxLength: 2, arguments: { 'x-overflow': 'reject-publish' } }, '#');
    const events = [1, 2, 3, 4, 5].map((position) => event(position, 'a'));
    expect(told(await rabbit.publish(events))).toEqual({
      ...{ taken: 2, isFinal: false },
      message: 'the broker does not take events: message nacked',
    });
    expect(await positions()).toEqual([1, 2]);
    expect(await rabbit.publish(events.slice(2, 4))).toEqual({ taken: 2 });
    expect(await positions()).toEqual([3, 4]);
  });

  test('whose connection is cut is connected to anew by the next event', async () => {
    await bind({}, '#');
    await rabbit.publish([event(1, 'a')]);
    expect(proxy.cut()).toBeGreaterThan(0);
    expect(told(await rabbit.publish([event(2, 'a'), event(3, 'b')]))).toMatchObject({ taken: 0, isFinal: false });
    expect(await rabbit.publish([event(2, 'a'), event(3, 'b')])).toEqual({ taken: 2 });
    expect(await positions()).toEqual([1, 2, 3]);
  });

  test('whose exchange of that name is of another kind says so, and no connection to it stays behind', async () => {
    const others = await openProxy('127.0.0.1', broker.port);
    const refused = openTransport({ url: `amqp://127.0.0.1:${String(others.port)}`, secret: null, mayBePrivate: true });
    await channel.deleteExchange('tidemark');
    await channel.assertExchange('tidemark', 'fanout', { durable: true });
    expect(told(await refused.publish([event(1, 'a')])).message).toMatch(/does not take events: .*inequivalent arg/);
    await until(() => Promise.resolve(others.open() === 0));
    await channel.deleteExchange('tidemark');
    await channel.assertExchange('tidemark', 'topic', { durable: true });
    await refused.close();
    await others.close();
  });

  test.each([
    [
      'a password that is wrong',
      () => `amqp://guest@127.0.0.1:${String(broker.port)}`,
      'the broker refuses user guest',
    ],
    ['nobody', () => 'amqp://127.0.0.1:1', 'the broker does not take events: connect ECONNREFUSED 127.0.0.1:1'],
  ])('is told from %s', async (_, url, message) => {
    const wrong = openTransport({ url: url(), secret: 'wrong', mayBePrivate: true });
    const outcome = told(await wrong.publish([event(1, 'a')]));
    expect(outcome).toEqual({ taken: 0, isFinal: false, message: expect.stringContaining(message) as string });
    await wrong.close();
  });
});
