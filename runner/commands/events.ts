import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { withDatabase } from '../base/database.js';
import { UsageError } from '../base/errors.js';
import { PACKAGE_ROOT } from '../base/settings.js';
import { formatRows } from '../base/text-table.js';
import { formatSubscriptions, subscribe, tail } from '../operate/events.js';
import { interruptible } from '../run/rounds.js';
import * as events from '../warehouse/events.js';
import type { Warehouse } from '../warehouse/functions.js';
import { TABLE_OPTION, defineAnswer, defineCommand, defineGroup, flag, number, numberOf, text } from './command.js';
import { tableOption as table, type Command, type Flags, type Given, type Positionals, type Takes } from './command.js';

const name = { type: 'string', demandOption: true, describe: 'The name of the subscription' } as const;
const position = { type: 'string', demandOption: true, describe: 'Position of the event' } as const;

/** A command that does one thing in the warehouse, and says what came of it. */
const act = <const P extends Positionals, const O extends Flags>(
  takes: Takes<P, O>,
  work: (warehouse: Warehouse, given: Given<P & O>) => Promise<readonly [result: unknown, words: string]>,
): Command =>
  defineAnswer(takes, (given, settings) =>
    withDatabase(settings.warehouse, 'events', (warehouse) => work(warehouse, given)),
  );

/** The same with a subscription alone, as it fares then. */
const actOn = (how: string, work: (warehouse: Warehouse, subscription: string) => Promise<unknown>): Command =>
  act({ positionals: { name } }, async (warehouse, { name: subscription }) => {
    await work(warehouse, subscription);
    return [{ subscription, done: how }, `${subscription} ${how}`];
  });

const positionOf = (option: string, given: string): string => {
  if (/^\d{1,18}$/.test(given)) return given;
  throw new UsageError(`${option} is ${given}, accepted is a position: a whole number from 0`, {
    hint: 'npx tidemark events status shows the offset of each subscription',
  });
};

const schema = defineCommand(
  {
    positionals: { table: { ...table, demandOption: false } },
    options: { batch: flag('That of a batch file instead') },
    examples: { 'events schema orders': 'What every event of orders is', 'events schema --batch': 'A batch file' },
    hasResult: false,
  },
  async ({ table: given, batch = false }, { settings }) => {
    if ((given === undefined) !== batch)
      throw new UsageError('give a table, or --batch', { hint: 'npx tidemark events list shows the tables' });
    const found =
      given === undefined
        ? await readFile(path.join(PACKAGE_ROOT, 'sql', 'schemas', 'batch.json'), 'utf8')
        : await withDatabase(settings.warehouse, 'events', (warehouse) => events.eventSchema(warehouse, given));
    process.stdout.write(`${JSON.stringify(JSON.parse(found), null, 2)}\n`);
  },
);

const begin = defineAnswer(
  {
    positionals: { name },
    options: {
      to: { ...text('Where: the URL of a webhook, or of a RabbitMQ server, without a password'), demandOption: true },
      from: {
        ...{ type: 'string', choices: ['now', 'oldest', 'snapshot'], default: 'now' },
        describe: 'Begin now, with the oldest event that is kept, or with what is in force',
      },
      table: TABLE_OPTION,
      secret: text('Where its secret is, not the secret: file:/path, or env:NAME of the relay'),
    },
    examples: { 'events subscribe shop --to https://shop.example/events --from snapshot': 'What is in force first' },
  },
  async ({ name: subscription, to, from, table: tables = [], secret }, settings) => {
    const after = await subscribe(settings, { name: subscription, url: to, from, tables, secret });
    const words = `${subscription} is told of events after ${after}, once the relay runs: npx tidemark relay`;
    return [{ subscription, from, acknowledged: after }, words];
  },
);

const rewind = act(
  {
    positionals: { name },
    options: { to: { ...text('A position, or an instant such as 2026-02-01T09:05Z'), demandOption: true } },
    examples: { 'events rewind shop --to 0': 'All events that are kept, once more' },
  },
  async (warehouse, { name: subscription, to }) => {
    const [at, instant] = /^\d+$/.test(to) ? [to] : [undefined, to];
    if (instant !== undefined && Number.isNaN(Date.parse(instant)))
      throw new UsageError(`--to is ${to}, accepted is a position, or an instant such as 2026-02-01T09:05Z`, {
        hint: 'npx tidemark events list shows which events are kept',
      });
    const after = await events.rewindSubscription(warehouse, subscription, at, instant);
    const words = `${subscription} is told once more of events after ${after}`;
    return [{ subscription, acknowledged: after }, words];
  },
);

const skip = act(
  {
    positionals: { name, position },
    options: { reason: { ...text('Why nobody need be told; it is kept'), demandOption: true } },
  },
  async (warehouse, { name: subscription, position: given, reason }) => {
    const skipped = positionOf('the position', given);
    await events.skipEvent(warehouse, subscription, skipped, reason);
    return [{ subscription, skipped }, `${subscription} is never told of the event at ${skipped}`];
  },
);

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
  async ({ table: tables = [], follow = false, ...given }, { settings }) => {
    const limit = numberOf('events', 'limit', given.limit, { least: 1 }) ?? Infinity;
    const asked = { after: positionOf('--after', given.after), limit, tables, isEndless: follow };
    const say = (event: string) => process.stdout.write(`${event}\n`);
    await interruptible(settings, (signal) => tail(settings, asked, signal, say));
  },
);

const on = act(
  {
    positionals: { table },
    options: { type: text('Type of the events, with {kind} for what happened, such as order_{kind}') },
    examples: { "events on orders --type 'order_{kind}'": 'With types such as order_updated' },
  },
  async (warehouse, { table: of, type }) => {
    await events.publishEvents(warehouse, of, true, type);
    const words = `what happens to the history of ${of} is published from now on: npx tidemark events subscribe`;
    return [{ table: of, events: 'on' }, words];
  },
);

const off = act({ positionals: { table } }, async (warehouse, { table: of }) => {
  await events.publishEvents(warehouse, of, false);
  const words = `what happens to the history of ${of} makes no events any more; those from before have no values now`;
  return [{ table: of, events: 'off' }, words];
});

const list = act({}, async (warehouse) => {
  const tables = await events.eventTables(warehouse);
  return [tables, tables.length === 0 ? 'no table is registered: npx tidemark add' : formatRows(tables)];
});

const status = act({}, async (warehouse) => {
  const all = await events.subscriptionStatus(warehouse);
  return [all, formatSubscriptions(all)];
});

export const command = defineGroup({
  'on <table>': ['publish what happens to a history as events', on],
  'off <table>': ['publish it no longer', off],
  list: ['list the tables, and which events are kept', list],
  'schema [table]': ["print the JSON Schema of a table's events, or of a batch file", schema],
  'subscribe <name>': ['tell somebody of events', begin],
  'unsubscribe <name>': ['tell them no more', actOn('is told no more', events.unsubscribe)],
  'pause <name>': ['tell them nothing for a while', actOn('is paused', events.pauseSubscription)],
  'resume <name>': ['go on, also where an event was refused', actOn('goes on', events.resumeSubscription)],
  'rewind <name>': ['tell them once more, from an earlier position on', rewind],
  'skip <name> <position>': ['never tell them of one event', skip],
  status: ['show who is told, how far, and what keeps them', status],
  tail: ['print events, one JSON document a line', show],
});
