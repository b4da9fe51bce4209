import { Gauge, Registry, collectDefaultMetrics } from 'prom-client';
import type { Settings } from '../base/settings.js';
import type { Database } from '../base/database.js';
import { logger } from '../base/logger.js';
import { readSlot } from '../source/log.js';
import { slotOf } from '../stream/position.js';
import { samples, type Sample } from '../warehouse/functions.js';
import { askedOf } from './asked.js';

/** How long a database may take to answer before it counts as away, in seconds: less than a scrape may last. */
const ANSWER_SECONDS = 4;

/** What the page of metrics says about the server itself: processor, memory, event loop. */
const own = new Registry();
collectDefaultMetrics({ register: own });
// Sums of others on the page, named as counters are, which they are not: "promtool check metrics" refuses them.
for (const kind of ['handles', 'requests', 'resources']) own.removeSingleMetric(`nodejs_active_${kind}_total`);

/** Everything there is to say, in the text format of Prometheus. A database that is away is said by tidemark_up and leaves its part out. */
export async function renderMetrics(settings: Settings): Promise<string> {
  const registry = new Registry();
  const source = await ask(settings, 'source', (database) => slotSamples(database, slotOf(settings).slot));
  const warehouse = await ask(settings, 'warehouse', samples);
  const meaning = 'Whether the database answers: 1 or 0.';
  const up = Object.entries({ source, warehouse }).map(([end, answer]) => {
    return { metric: 'up', meaning, labels: { end }, value: answer === undefined ? 0 : 1 };
  });
  for (const { metric, meaning: help, labels, value } of [...up, ...(source ?? []), ...(warehouse ?? [])]) {
    if (value === null) continue;
    const name = `tidemark_${metric}`;
    const known = registry.getSingleMetric(name) as Gauge | undefined;
    const gauge = known ?? new Gauge({ name, help, labelNames: Object.keys(labels), registers: [registry] });
    gauge.set({ ...labels }, value);
  }
  return `${await registry.metrics()}\n${await own.metrics()}`;
}

/** How the replication slot stands, asked of the source itself: what it keeps grows while nobody reads, and nobody reports. */
async function slotSamples(source: Database, slot: string): Promise<Sample[]> {
  const state = await readSlot(source, slot);
  if (state === undefined) return [];
  const sample = (metric: string, meaning: string, value: boolean | string | null): Sample => ({
    ...{ metric: `slot_${metric}`, meaning, labels: { slot } },
    value: value === null ? null : Number(value),
  });
  return [
    sample('is_active', 'Whether a reader holds the replication slot: 1 or 0.', state.active_pid !== null),
    sample('is_lost', 'Whether the source has given up the log that the slot needs.', state.wal_status === 'lost'),
    sample('unconfirmed_bytes', 'Log of the source that its reader has not confirmed.', state.unconfirmed_bytes),
    sample('retained_bytes', 'Log that the source keeps for the slot.', state.retained_bytes),
    sample(
      'safe_bytes',
      'Log that may be written before the slot is lost; none where nothing limits it.',
      state.safe_bytes,
    ),
  ];
}

/** The media type that renderMetrics writes. */
export const METRICS_TYPE = own.contentType;

async function ask<T>(settings: Settings, end: 'source' | 'warehouse', question: (database: Database) => Promise<T>) {
  const { answer, fault } = await askedOf(settings[end], 'metrics', question, ANSWER_SECONDS);
  if (fault !== null) logger.warn(`${fault}: the metrics go without the ${end}`);
  return answer;
}
