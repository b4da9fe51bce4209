import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { UsageError } from '../base/errors.js';
import { loadSettings, PACKAGE_ROOT } from '../base/settings.js';
import { formatRows } from '../base/text-table.js';
import { formatSubscriptions, subscribe, tail, withEvents } from '../operate/events.js';
import { onInterrupt } from '../run/rounds.js';
import * as events from '../warehouse/events.js';
import { TABLE_OPTION, defineCommand, defineGroup, flag, number, numberOf, text, type Command } from './command.js';

const table = { type: 'string', demandOption: true, describe: 'The table, by the name of its dimension' } as const;
const name = { type: 'string', demandOption: true, describe: 'The name of the subscription' } as const;
const position = { type: 'string', demandOption: true, describe: 'Position of the event' } as const;

const positionOf = (option: string, given: string): string => {
  if (/^\d{1,18}$/.test(given)) return given;
  throw new UsageError(`${option} is ${given}, accepted is a position: a whole number from 0`, {
    hint: 'npx tidemark events status shows the offset of each subscription',
  });
};

const on = defineCommand(
  {
    positionals: { table },
    options: { type: text('Type of the events, with {kind} for what happened, such as order_{kind}') },
    examples: { "events on orders --type 'order_{kind}'": 'With types such as order_updated' },
  },
  async (given, print) => {
    await withEvents(loadSettings(), (warehouse) => events.publishEvents(warehouse, given.table, true, given.type));
    print(
      { table: given.table, events: 'on' },
      `what happens to the history of ${given.table} is published from now on: npx tidemark events subscribe`,
    );
  },
);

const off = defineCommand({ positionals: { table } }, async (given, print) => {
  await withEvents(loadSettings(), (warehouse) => events.publishEvents(warehouse, given.table, false));
  print(
    { table: given.table, events: 'off' },
    `what happens to the history of ${given.table} makes no events any more; those from before have no values now`,
  );
});

const list = defineCommand({}, async (_, print) => {
  const tables = await withEvents(loadSettings(), (warehouse) => events.eventTables(warehouse));
  print(tables, tables.length === 0 ? 'no table is registered: npx tidemark add' : formatRows(tables));
});

const schema = defineCommand(
  {
    positionals: { table: { ...table, demandOption: false } },
    options: { batch: flag('That of a batch file instead') },
    examples: { 'events schema orders': 'What every event of orders is', 'events schema --batch': 'A batch file' },
    hasResult: false,
  },
  async (given) => {
    if ((given.table === undefined) !== (given.batch ?? false))
      throw new UsageError('give a table, or --batch', { hint: 'npx tidemark events list shows the tables' });
    const found =
      given.table === undefined
        ? await readFile(path.join(PACKAGE_ROOT, 'sql', 'schemas', 'batch.json'), 'utf8')
        : await withEvents(loadSettings(), (warehouse) => events.eventSchema(warehouse, given.table ?? ''));
    process.stdout.write(`${JSON.stringify(JSON.parse(found), null, 2)}\n`);
  },
);

const begin = defineCommand(
  {
    positionals: { name },
    options: {
      to: { ...text('Where: the URL of a webhook, or of a RabbitMQ server, without a password'), demandOption: true },
      from: {
        type: 'string',
        choices: ['now', 'oldest', 'snapshot'],
        default: 'now',
        describe: 'Begin now, with the oldest event that is kept, or with what is in force',
      },
      table: TABLE_OPTION,
      secret: text('Where its secret is, not the secret: file:/path, or env:NAME of the relay'),
    },
    examples: { 'events subscribe shop --to https://shop.example/events --from snapshot': 'What is in force first' },
  },
  async (given, print) => {
    const { from, to, table: tables = [], secret } = given;
    if (secret !== undefined && !/^(file|env):./.test(secret))
      throw new UsageError('--secret says where a secret is, as file:/path or env:NAME', {
        hint: 'the secret itself does not stand in the warehouse',
      });
    const after = await subscribe(loadSettings(), { name: given.name, url: to, from: from, tables, secret });
    print(
      { subscription: given.name, from, acknowledged: after },
      `${given.name} is told of events after ${after}, once the relay runs: npx tidemark relay`,
    );
  },
);

/** Does one thing with a subscription, and says how it fares then. */
const ofSubscription = (
  words: string,
  work: (warehouse: Parameters<typeof events.unsubscribe>[0], subscription: string) => Promise<unknown>,
): Command =>
  defineCommand({ positionals: { name } }, async (given, print) => {
    await withEvents(loadSettings(), (warehouse) => work(warehouse, given.name));
    print({ subscription: given.name, done: words }, `${given.name} ${words}`);
  });

const rewind = defineCommand(
  {
    positionals: { name },
    options: {
      to: { ...text('A position, or an instant such as 2026-02-01T09:05Z'), demandOption: true },
    },
    examples: { 'events rewind shop --to 0': 'All events that are kept, once more' },
  },
  async ({ name: subscription, to }, print) => {
    const isPosition = /^\d+$/.test(to);
    if (!isPosition && Number.isNaN(Date.parse(to)))
      throw new UsageError(`--to is ${to}, accepted is a position, or an instant such as 2026-02-01T09:05Z`, {
        hint: 'npx tidemark events list shows which events are kept',
      });
    const after = await withEvents(loadSettings(), (warehouse) =>
      events.rewindSubscription(warehouse, subscription, isPosition ? to : undefined, isPosition ? undefined : to),
    );
    print({ subscription, acknowledged: after }, `${subscription} is told once more of events after ${after}`);
  },
);

const skip = defineCommand(
  {
    positionals: { name, position },
    options: { reason: { ...text('Why nobody need be told; it is kept'), demandOption: true } },
  },
  async (given, print) => {
    const at = positionOf('the position', given.position);
    await withEvents(loadSettings(), (warehouse) => events.skipEvent(warehouse, given.name, at, given.reason));
    print({ subscription: given.name, skipped: at }, `${given.name} is never told of the event at ${at}`);
  },
);

const status = defineCommand({}, async (_, print) => {
  const all = await withEvents(loadSettings(), (warehouse) => events.subscriptionStatus(warehouse));
  print(all, formatSubscriptions(all));
});

const show = defineCommand(
  {
    options: {
      table: TABLE_OPTION,
      after: { ...text('Only those after this position'), default: '0' },
      limit: number('At most so many'),
      follow: { alias: 'f', type: 'boolean', describe: 'Go on with what comes, until interrupted' },
    },
    examples: { 'events tail --table orders -f': 'The events of orders, as they come' },
    hasResult: false,
  },
  async ({ table: tables = [], follow = false, ...given }) => {
    const limit = numberOf('events', 'limit', given.limit, { least: 1 }) ?? Infinity;
    const after = positionOf('--after', given.after);
    const settings = loadSettings();
    const { signal, release } = onInterrupt(settings.shutdown_timeout_seconds);
    const intervalSeconds = follow ? settings.cdc_extraction_interval_seconds : undefined;
    await tail(settings, { after, limit, tables, intervalSeconds }, signal, (event) => {
      process.stdout.write(`${event}\n`);
    }).finally(release);
  },
);

export const command = defineGroup({
  'on <table>': ['publish what happens to a history as events', on],
  'off <table>': ['publish it no longer', off],
  list: ['list the tables, and which events are kept', list],
  'schema [table]': ["print the JSON Schema of a table's events, or of a batch file", schema],
  'subscribe <name>': ['tell somebody of events', begin],
  'unsubscribe <name>': ['tell them no more', ofSubscription('is told no more', events.unsubscribe)],
  'pause <name>': [
    'tell them nothing for a while',
    ofSubscription('is paused', (warehouse, given) => events.pauseSubscription(warehouse, given, true)),
  ],
  'resume <name>': [
    'go on, also where an event was refused',
    ofSubscription('goes on', (warehouse, given) => events.pauseSubscription(warehouse, given, false)),
  ],
  'rewind <name>': ['tell them once more, from an earlier position on', rewind],
  'skip <name> <position>': ['never tell them of one event', skip],
  status: ['show who is told, how far, and what keeps them', status],
  tail: ['print events, one JSON document a line', show],
});
