import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { stopPipeline } from '../../runner/services/background.js';
import { runCli } from '../support/cli.js';
import { createPipeline } from '../support/databases.js';
import { startReceiver } from '../support/receiver.js';
import { until } from '../support/wait.js';

interface OrderEvent {
  readonly type: string;
  readonly sequence: string;
  readonly data: { readonly changed: readonly string[] };
}

test('tidemark start --simulate tells a receiver of orders as they change, and stop ends the relay after what it has in hand', async () => {
  const pace = { CDC_EXTRACTION_INTERVAL_SECONDS: '1', MUTATION_INTERVAL_SECONDS: '1' };
  const [pipeline, receiver] = [
    await createPipeline({ ...pace, EVENT_PRIVATE_ADDRESSES: 'allow' }),
    await startReceiver(),
  ];
  try {
    await pipeline.warehouse`select tidemark.publish_events('orders')`;
    await pipeline.warehouse`select tidemark.subscribe('shop', 'webhook', ${receiver.url})`;
    const { code, stdout } = await runCli(['start', '--simulate'], pipeline.env);
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringMatching(/relay +running/) as string });
    const told = () => receiver.requests.flatMap(({ body }) => JSON.parse(body) as OrderEvent[]);
    await until(() => Promise.resolve(told().some(({ type }) => type === 'tidemark.orders.updated')));
    const stopped = await stopPipeline(pipeline.settings);
    expect(stopped.find(({ service }) => service === 'relay')?.how).toBe('stopped');
    const log = await readFile(path.join(pipeline.settings.log_dir, 'relay.log'), 'utf8');
    expect(log).toMatch(/shop: told of \d+ events?[\s\S]*stopped/);
    const events = told();
    expect(events.map(({ sequence }) => Number(sequence))).toEqual(events.map((_, index) => index + 1));
    const update = events.find(({ type }) => type === 'tidemark.orders.updated');
    expect(update?.data.changed).not.toEqual([]);
  } finally {
    await stopPipeline(pipeline.settings);
    await receiver.close();
    await pipeline.drop();
  }
});
