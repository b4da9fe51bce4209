import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { PROJECT_ROOT } from '../../runner/base/settings.js';
import { openTransport } from '../../runner/events/open.js';
import type { Outcome, Transport } from '../../runner/events/transport.js';
import { isPublic } from '../../runner/events/webhook.js';
import type { Event } from '../../runner/warehouse/relay.js';
import { startReceiver, type Received, type Receiver } from '../support/receiver.js';

const SECRET = `whsec_${Buffer.from('a key that only two parties know').toString('base64')}`;
const event = (position: number): Event => ({
  event_position: String(position),
  event_id: `warehouse/orders/${String(position)}`,
  partition_key: 'orders/1',
  dimension_name: 'orders',
  kind: 'updated',
  event: JSON.stringify({ specversion: '1.0', id: `warehouse/orders/${String(position)}` }),
});
const EVENTS = [event(1), event(2), event(3)];
const idsIn = ({ body }: Received) => (JSON.parse(body) as { id: string }[]).map(({ id }) => id);

let receiver: Receiver;
let webhook: Transport;
beforeAll(async () => {
  receiver = await startReceiver();
  webhook = openTransport({ url: receiver.url, secret: SECRET, mayBePrivate: true });
});
afterAll(async () => {
  await webhook.close();
  await receiver.close();
});
beforeEach(() => {
  receiver.answer(204);
  receiver.requests.length = 0;
});

/** What is told of a fault, beside how many were taken. */
const told = ({ taken, fault }: Outcome) => ({
  taken,
  isFinal: fault?.isFinal,
  retry_seconds: fault?.retry_seconds,
  message: fault?.error.message,
});

describe('a webhook', () => {
  test('is a batch of CloudEvents whose signature the library of Standard Webhooks takes, under the key in use and the next one', async () => {
    const next = `whsec_${Buffer.from('the key that takes its place').toString('base64')}`;
    const rotating = openTransport({ url: receiver.url, secret: `${SECRET} ${next}`, mayBePrivate: true });
    expect([await webhook.publish(EVENTS), await rotating.publish(EVENTS)]).toEqual([{ taken: 3 }, { taken: 3 }]);
    await rotating.close();
    const [first, second] = receiver.requests;
    if (first === undefined || second === undefined) throw new Error('nothing was received');
    expect(first.headers['content-type']).toBe('application/cloudevents-batch+json; charset=utf-8');
    for (const [request, key] of [[first, SECRET], [second, SECRET], [second, next]] as const) // prettier-ignore
      expect(new Webhook(key).verify(request.body, request.headers as Record<string, string>)).toHaveLength(3);
    expect(() => new Webhook(next).verify(first.body, first.headers as Record<string, string>)).toThrow();
    expect(() => new Webhook(SECRET).verify(`${first.body} `, first.headers as Record<string, string>)).toThrow();
  });

  test('is signed by no key but those that are given, however many blanks are between them, and by none that is no key', async () => {
    const spaced = openTransport({ url: receiver.url, secret: ` ${SECRET}   ${SECRET}\n`, mayBePrivate: true });
    await spaced.publish(EVENTS);
    await spaced.close();
    expect(String(receiver.requests[0]?.headers['webhook-signature']).split(' ')).toHaveLength(2);
    for (const secret of ['whsec_', ' ', 'a pass-phrase of words', `${SECRET}, ${SECRET}`])
      expect(() => openTransport({ url: receiver.url, secret, mayBePrivate: true })).toThrow(
        'the secret is no key to sign webhooks with',
      );
  });

  test('is verified by the receiver that docs/events.md shows, and what was altered is not', async () => {
    await webhook.publish(EVENTS);
    const page = await readFile(path.join(PROJECT_ROOT, 'docs', 'events.md'), 'utf8');
    const file = path.join(await mkdtemp(path.join(tmpdir(), 'tidemark-receiver-')), 'verify.mjs');
    await writeFile(file, /```js\n([\s\S]*?)```/.exec(page)?.[1] ?? '');
    const { verify } = (await import(file)) as { verify: (secret: string, headers: object, body: string) => unknown[] };
    const { headers, body } = receiver.requests[0] ?? expect.fail('nothing was received');
    expect(verify(SECRET, headers, body)).toHaveLength(3);
    expect(() => verify(SECRET, headers, body.replace('1.0', '1.1'))).toThrow('not signed with this secret');
    expect(() => verify(SECRET, { ...headers, 'webhook-timestamp': '1' }, body)).toThrow('too old');
  });

  test('has the same name and body when it is sent again, and another one where it holds other events', async () => {
    for (const events of [EVENTS, EVENTS, EVENTS.slice(0, 2), EVENTS.slice(0, 1)]) await webhook.publish(events);
    const [first, again, ...others] = receiver.requests;
    expect([again?.headers['webhook-id'], again?.body]).toEqual([first?.headers['webhook-id'], first?.body]);
    expect(others.map(({ headers }) => headers['webhook-id'])).toEqual(['warehouse/orders/1-2', 'warehouse/orders/1']);
  });

  test('that is refused comes again one event at a time, and is taken where each is taken alone', async () => {
    receiver.answer((request, response) => response.writeHead(idsIn(request).length > 1 ? 413 : 200).end());
    expect(await webhook.publish(EVENTS)).toEqual({ taken: 3 });
    expect(receiver.requests.map(idsIn).map((ids) => ids.length)).toEqual([3, 1, 1, 1]);
  });

  test('is at fault where one event alone is refused: those before it are taken, none after it is sent', async () => {
    receiver.answer((request, response) => response.writeHead(request.body.includes('orders/2') ? 422 : 200).end());
    expect(told(await webhook.publish(EVENTS))).toEqual({
      ...{ taken: 1, isFinal: true, retry_seconds: undefined },
      message: 'the receiver answers 422 to this one event',
    });
    expect(receiver.requests.flatMap(idsIn).filter((id) => id.endsWith('/3'))).toHaveLength(1);
  });

  test.each([408, 425, 429, 500, 503])('answered with %i is no event at fault: it is to come again', async (status) => {
    receiver.answer(status);
    expect(told(await webhook.publish(EVENTS))).toMatchObject({ taken: 0, isFinal: false });
    expect(receiver.requests).toHaveLength(1);
  });

  test('comes again when Retry-After says, in seconds or by a date', async () => {
    const inAnHour = new Date(Date.now() + 3_600_000).toUTCString();
    const waits: (number | undefined)[] = [];
    for (const after of ['120', inAnHour, 'soon']) {
      receiver.answer((_, response) => response.writeHead(429, { 'retry-after': after }).end());
      waits.push((await webhook.publish(EVENTS)).fault?.retry_seconds);
    }
    expect(waits).toEqual([120, expect.closeTo(3600, -2), undefined]);
  });

  test('answered with 410 is the end: the receiver wants no more', async () => {
    receiver.answer(410);
    expect(told(await webhook.publish(EVENTS))).toMatchObject({ taken: 0, isFinal: true });
    expect(receiver.requests).toHaveLength(1);
  });

  test('goes to no other address than its own, wherever it is pointed to', async () => {
    const other = await startReceiver();
    receiver.answer((_, response) => response.writeHead(307, { location: other.url }).end());
    expect(told(await webhook.publish(EVENTS))).toMatchObject({ taken: 0, isFinal: false });
    expect(other.requests).toEqual([]);
    await other.close();
  });

  test('whose connection is cut is to come again, and an answer that never ends is not waited for', async () => {
    receiver.answer((_, response) => response.destroy());
    expect(told(await webhook.publish(EVENTS))).toMatchObject({ taken: 0, isFinal: false });
    receiver.answer((_, response) => {
      response.writeHead(200);
      const write = () => {
        if (!response.destroyed) response.write('x'.repeat(65_536), write);
      };
      write();
    });
    expect(await webhook.publish(EVENTS)).toEqual({ taken: 3 });
  });
});

describe('an address that is not of the public internet', () => {
  test('gets no webhook unless it may, whether it is written as such or a name leads there', async () => {
    const { port } = new URL(receiver.url);
    const hosts = ['127.0.0.1', '2130706433', '0x7f.1', '[::ffff:127.0.0.1]', '[::1]', 'localhost', '0.0.0.0'];
    for (const host of hosts) {
      const guarded = openTransport({ url: `http://${host}:${port}/`, secret: SECRET, mayBePrivate: false });
      expect({ host, message: told(await guarded.publish(EVENTS)).message }).toEqual({
        host,
        message: 'the receiver cannot be reached: its address is not of the public internet',
      });
      await guarded.close();
    }
    expect(receiver.requests).toEqual([]);
  });

  test.each([
    ['169.254.169.254', false],
    ['10.1.2.3', false],
    ['172.31.0.1', false],
    ['172.32.0.1', true],
    ['192.168.1.1', false],
    ['100.64.0.1', false],
    ['255.255.255.255', false],
    ['fd00::1', false],
    ['fe80::1', false],
    ['64:ff9b::7f00:1', false],
    ['2002:7f00:1::', false],
    ['2001::1', false],
    ['::1', false],
    ['::ffff:0:7f00:1', false],
    ['::7f00:1', false],
    ['::ffff:10.0.0.1', false],
    ['::ffff:7f00:1', false],
    ['::ffff:1.1.1.1', true],
    ['2001:4860:4860::8888', true],
    ['1.1.1.1', true],
    ['2606:4700::1111', true],
  ])('%s: public is %s', (address, expected) => {
    expect(isPublic(address)).toBe(expected);
  });
});

test('events are sent to no other kind of place', () => {
  for (const url of ['ftp://example.org/', 'file:///etc/passwd', 'example.org', ''])
    expect(() => openTransport({ url, secret: null, mayBePrivate: false })).toThrow('events cannot be sent there');
});
