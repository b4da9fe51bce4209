import { partitionTable, type Partitioned } from '../operate/partition.js';
import { captureTable, removeCaptured, type Captured, type LeftAtSource } from '../operate/capture.js';
import { interruptible } from '../run/rounds.js';
import { UsageError } from '../base/errors.js';
import { counted, formatRows, linesOf } from '../base/text-table.js';
import { browseTable, listTables, pauseTable } from '../registration/registered.js';
import { defineAnswer, flag, text } from './command.js';

const SHOWN_BATCHES = 5;

const reportLeft = ({ statement, slot }: LeftAtSource = {}) => [
  statement && `the source still publishes it; there, as the owner of the publication: ${statement}`,
  slot &&
    `no table is read from the log any more, and the source keeps its log for slot ${slot}: npx tidemark stream drop`,
];

function reportRemoved(removed: Awaited<ReturnType<typeof removeCaptured>>): string {
  const { table, history_table, is_history_dropped, change_log, pending_batches: pending } = removed;
  const more = pending.length > SHOWN_BATCHES ? ` and ${pending.length - SHOWN_BATCHES} more` : '';
  return linesOf(
    `${table} is no longer registered; ${history_table} ${is_history_dropped ? 'is dropped' : 'stays as it is'}`,
    change_log && `its change log is set aside: ${change_log}`,
    pending.length > 0 &&
      `${counted(pending.length, 'batch')} in it ${pending.length === 1 ? 'was' : 'were'} never loaded, history lacks them: ${pending.slice(0, SHOWN_BATCHES).join(', ')}${more}`,
    removed.exports.length > 0 &&
      `what was exported of it stays, and no key is forgotten there: ${removed.exports.join(', ')}`,
    ...reportLeft(removed.left),
    `the migration that registered ${table} stays: for other warehouses write one after it that selects tidemark.remove_dimension`,
    `to register it again: npx tidemark add${is_history_dropped ? '' : '; its history must make room first, add says how'}`,
  );
}

function reportCaptured({ table, capture, is_changed, changes, gap, left }: Captured): string {
  if (capture === 'poll' && !is_changed) return `${table} is polled already`;
  if (capture === 'poll')
    return linesOf(
      `${table} is polled from now on: its next extraction reads every row, and what history has already is absorbed`,
      ...reportLeft(left),
    );
  if (!is_changed) return `${table} is read from the log already: npx tidemark stream`;
  return linesOf(
    `${table} is read from the log from now on, after ${counted(changes, 'change')} by polling: npx tidemark stream --watch --load`,
    `what was deleted before is found by comparison: npx tidemark reconcile --table ${table} --repair`,
    gap &&
      `states of rows from ${gap.since} to ${gap.until} are lost (${gap.from} to ${gap.to} of the log); the last of each was read`,
  );
}

function partitionsOf(name: string, how: string | undefined): number {
  const count = /^\d{1,4}$/.test(how ?? '') ? Number(how) : NaN;
  if (count === 0 || (count >= 2 && count <= 1024)) return count;
  throw new UsageError('partition needs to be told how many: from 2 to 1024, or 0 for none', {
    hint: `npx tidemark table partition ${name} 16`,
  });
}

const kindOf = (partitions: number) => (partitions === 0 ? 'a plain table' : counted(partitions, 'partition'));

function reportPartitioned(made: Partitioned): string {
  const { table, history_table: history, partitions, partitions_now: now, outcome } = made;
  const views = made.views.length > 0 && `made anew: ${made.views.join(', ')}`;
  const moved =
    made.publications.length > 0 &&
    `in the publications ${made.publications.join(', ')} it is another table: its subscribers must "alter subscription ... refresh publication"`;
  switch (outcome) {
    case 'kept':
      return `${table}: ${history} has that already: ${kindOf(partitions)}`;
    case 'given up':
      return `${table}: the copy that was begun is gone; ${history} stays as it is: ${kindOf(partitions)}`;
    case 'made':
      return linesOf(
        `${table}: ${history} is ${kindOf(partitions)} now, and was ${kindOf(now)}: ${counted(made.versions ?? 0, 'version')}, compared`,
        views,
        moved,
        `to have it as it was: npx tidemark table partition ${table} ${now}`,
      );
    case 'planned':
      return linesOf(
        `${table}: ${history} is ${kindOf(now)}, and would be ${kindOf(partitions)}`,
        `about ${counted(made.versions_estimate, 'version')}; the copy needs some ${(Number(made.table_bytes) / 1024 ** 2).toFixed(1)} MiB until the table that is there is dropped`,
        views,
        moved,
        ...made.obstacles.map((each) => `in the way: ${each}`),
      );
  }
}

export const command = defineAnswer(
  {
    examples: {
      'table list': 'What is registered',
      'table pause orders': 'Leave orders alone, until "table resume orders"',
      'table capture orders log': 'Read orders from the write-ahead log from now on',
      'table browse orders on': 'Indexes for what happened between two moments',
      'table partition orders 16': 'Part its history by hash of the key, online; 0: plain again',
    },
    positionals: {
      action: {
        type: 'string',
        choices: ['list', 'pause', 'resume', 'capture', 'browse', 'partition', 'remove'],
        demandOption: true,
        describe: 'remove keeps the history, unless told otherwise',
      },
      name: { type: 'string', describe: 'The table, by the name of its dimension' },
      how: {
        type: 'string',
        describe:
          'capture: poll, log, or both (from the log, with comparisons as a proof); browse: on or off; partition: how many, 2 to 1024, or 0 for none',
      },
    },
    options: {
      'drop-history': flag('remove: drop the history table too, with its current view and as-of functions'),
      'dry-run': flag('partition: say what would be done, and what stands in the way'),
      reason: text('pause, resume: why; it is kept'),
    },
    epilogue:
      'partition copies the history while it is loaded and read, compares, and lets the copy take its place in one transaction, for which nobody ' +
      'waits longer than two seconds; then the table that was there is dropped. It may be cut off at any moment: the same command goes on, and ' +
      'with the number that the history has now it gives the copy up. docs/scale.md says when to, and what it costs.',
  },
  async ({ action, name, how, dropHistory = false, dryRun = false, reason }, settings) => {
    const see = { hint: 'see "tidemark table --help"' };
    if (reason !== undefined && action !== 'pause' && action !== 'resume')
      throw new UsageError('--reason goes with pause and resume only', see);
    if (dropHistory && action !== 'remove') throw new UsageError('--drop-history goes with remove only', see);
    if (dryRun && action !== 'partition') throw new UsageError('--dry-run goes with partition only', see);
    if (action === 'list') {
      const tables = await listTables(settings);
      return [tables, tables.length === 0 ? 'no table is registered: npx tidemark add' : formatRows(tables)];
    }
    if (name === undefined)
      throw new UsageError(`${action} needs the name of a table`, { hint: 'npx tidemark table list shows them' });
    if (action === 'capture') {
      if (how !== 'poll' && how !== 'log' && how !== 'both')
        throw new UsageError('capture needs to be told how: poll, log or both', {
          hint: `npx tidemark table capture ${name} log`,
        });
      const captured = await interruptible(settings, (signal) => captureTable(settings, name, how, signal));
      return [captured, reportCaptured(captured)];
    }
    if (action === 'partition') {
      const partitions = partitionsOf(name, how);
      const made = await interruptible(settings, (signal) =>
        partitionTable(settings, name, partitions, { signal, isDryRun: dryRun }),
      );
      return [made, reportPartitioned(made)];
    }
    if (action === 'browse') {
      if (how !== 'on' && how !== 'off')
        throw new UsageError('browse needs to be told whether: on or off', {
          hint: `npx tidemark table browse ${name} on`,
        });
      const statements = await browseTable(settings, name, how === 'on');
      return [{ table: name, browse: how, statements }, [`${name}: browse is ${how}`, ...statements].join('\n')];
    }
    if (action === 'remove') {
      const removed = await removeCaptured(settings, name, dropHistory);
      return [removed, reportRemoved(removed)];
    }
    await pauseTable(settings, name, action === 'pause', reason);
    return action === 'pause'
      ? [{ table: name, state: 'paused' }, `${name} is paused: npx tidemark table resume ${name}`]
      : [{ table: name, state: 'active' }, `${name} goes on from its watermark`];
  },
);
