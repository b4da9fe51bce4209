import { withDatabase } from '../base/database.js';
import { TidemarkError, withOutcome } from '../base/errors.js';
import { logger } from '../base/logger.js';
import type { Settings } from '../base/settings.js';
import { counted, formatRows } from '../base/text-table.js';
import { isLogged } from '../batch/mapping.js';
import { loadTables } from '../load/tables.js';
import { notingHowFar } from '../operate/loaded.js';
import { RoundLoader } from '../operate/round-loader.js';
import { selectTables } from '../run/each-table.js';
import { runPart } from '../services/run.js';
import { applySetup, dropSlot, setupStatements, streamStatus, type StreamStatus } from '../stream/setup.js';
import { awaitHandOver, slotOf } from '../stream/position.js';
import type { Round } from '../stream/reader.js';
import { streamTables, type StreamResult } from '../stream/stream.js';
import { dimensionMappings, forgetSlot } from '../warehouse/functions.js';
import { TABLE_OPTION, defineCommand, flag, serviceOption, type Context } from './command.js';

const mappingsOf = (settings: Settings) => withDatabase(settings.warehouse, 'stream', dimensionMappings);
const onSource = <T>(settings: Settings, work: Parameters<typeof withDatabase<T>>[2]) =>
  withDatabase(settings.source, 'stream', work);

const wordsOf = ({ changes, rounds, to }: StreamResult) =>
  `${counted(changes, 'change')} in ${counted(rounds, 'round')}, read up to ${to ?? 'where it was'}`;

const tablesOf = ({ batches }: Round) => batches.map(({ log }) => log.table);

type Asked = Readonly<{ watch: boolean; load: boolean; service: boolean }>;

const run = ({ settings, print }: Context, { watch, load, service }: Asked): Promise<void> =>
  runPart<StreamResult>(
    settings,
    {
      name: 'stream',
      loads: load,
      service: service ? 'streamer' : undefined,
      greeting: 'Starting reader of the log',
      interval: watch ? settings.cdc_extraction_interval_seconds : undefined,
      wait: (signal) => awaitHandOver(settings, settings.cdc_extraction_interval_seconds, signal),
    },
    async (signal, tell) => {
      if (!watch) return [await readOnce(settings, load, signal)];
      const ended = new AbortController();
      const loader = load ? new RoundLoader(settings, ended.signal) : undefined;
      const loading = loader?.work();
      const onRound = async (round: Round) => {
        const loaded = loader?.take(round);
        await round.published;
        tell({ changes: round.changes, tables: tablesOf(round) });
        await loaded;
      };
      const result = await streamTables({ settings, signal, isEndless: true, onRound }).finally(() => {
        ended.abort();
        return loading;
      });
      if (result.to !== null) logger.info(wordsOf(result));
      // Each round has been told.
      return [];
    },
    (results, error) => {
      for (const result of results) print(result, wordsOf(result), error);
    },
  );

async function readOnce(settings: Settings, load: boolean, signal: AbortSignal): Promise<StreamResult> {
  const tables = new Set<string>();
  const onRound = (round: Round) => {
    for (const table of tablesOf(round)) tables.add(table);
    return Promise.resolve();
  };
  const result = { ...(await streamTables({ settings, signal, isEndless: false, onRound })), tables: [...tables] };
  if (load) {
    const logged = (await mappingsOf(settings)).filter(isLogged).map(({ dimension_name: name }) => name);
    await notingHowFar(settings, () => loadTables({ settings, tables: [], only: new Set(logged) }));
  }
  assertNoneStopped(result);
  return result;
}

/** @throws TidemarkError that names the tables of which nothing is taken any more */
function assertNoneStopped(result: StreamResult): void {
  const stopped = Object.entries(result.stopped);
  if (stopped.length === 0) return;
  const error = new TidemarkError(`not captured any more: ${stopped.map(([table]) => table).join(', ')}`, {
    detail: stopped.map((each) => each.join(': ')).join('; '),
    hint: 'the others go on; hand it over anew: npx tidemark table capture <name> log',
  });
  const failures = stopped.map(([table, reason]) => ({ table, error: new TidemarkError(reason) }));
  throw withOutcome(error, { result: [result], failures });
}

function formatStatus({ tables, published, ...state }: StreamStatus): string {
  const all = Object.entries({ ...state, published: published?.join(', ') ?? 'no publication' });
  const lines = all.map(([name, value]) => `${name.padEnd(18)} ${String(value ?? '')}`);
  return [...lines, tables.length === 0 ? 'no table was read yet' : formatRows(tables)].join('\n');
}

export const command = defineCommand(
  {
    examples: {
      'stream setup --apply': 'Make publication and replication slot at the source',
      'stream --load': 'Read up to now, and make history of it',
      'stream --watch --load': 'The same for ever, each commit at once',
    },
    positionals: {
      action: {
        type: 'string',
        choices: ['run', 'setup', 'status', 'drop'],
        default: 'run',
        describe:
          'setup: print the statements for the source; status: show the slot and how far it was read; drop: remove both',
      },
    },
    options: {
      watch: flag('run: go on until interrupted'),
      service: serviceOption('streamer'),
      load: flag('run: also load each round at once, in the same process'),
      table: { ...TABLE_OPTION, describe: 'setup: these besides those that are captured from the log' },
      apply: flag('setup: run the statements'),
    },
  },
  async ({ action, watch = false, load = false, service = false, apply = false, table: tables = [] }, context) => {
    const { settings, print } = context;
    if (action === 'run') return run(context, { watch, load, service });
    if (action === 'status') {
      const status = await onSource(settings, (source) => streamStatus(source, settings));
      print(status, formatStatus(status));
    } else if (action === 'drop') {
      const dropped = await onSource(settings, (source) => dropSlot(source, settings));
      await withDatabase(settings.warehouse, 'stream', (warehouse) => forgetSlot(warehouse, slotOf(settings).slot));
      print({ dropped }, dropped.length === 0 ? 'there is nothing to drop' : `dropped: ${dropped.join(', ')}`);
    } else {
      const all = await mappingsOf(settings);
      const wanted = new Set(tables.length === 0 ? [] : selectTables(all, tables));
      const published = all.filter((mapping) => isLogged(mapping) || wanted.has(mapping));
      const statements = await onSource(settings, async (source) => {
        const needed = await setupStatements(source, settings, published);
        if (apply) await applySetup(source, needed);
        return needed;
      });
      const words = statements.length === 0 ? 'all is there' : statements.map((each) => `${each};`).join('\n');
      print({ statements, applied: apply }, words);
    }
  },
);
