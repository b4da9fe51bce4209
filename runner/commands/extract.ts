import type { CommandModule } from 'yargs';
import { loadSettings } from '../base/settings.js';
import { UsageError } from '../base/errors.js';
import type { ExtractResult } from '../extract/table.js';
import { sayInterrupted } from '../run/rounds.js';
import type { BegunLayouts } from '../extract/shard-layout.js';
import { logger } from '../base/logger.js';
import { extractTables } from '../extract/tables.js';
import { runPart } from '../services/part.js';
import type { Service } from '../services/record.js';
import { chainName, parseShard, type AskedShard } from '../batch/shard.js';
import { counted } from '../base/text-table.js';

interface ExtractArguments {
  readonly table?: readonly string[] | undefined;
  readonly full?: boolean | undefined;
  readonly maxRowsPerSecond?: number | undefined;
  readonly shard?: string | undefined;
  readonly watch?: boolean | undefined;
  readonly service?: boolean | undefined;
  readonly json?: boolean | undefined;
}

const report = ({ table, shard = '', changes, batches, watermark }: ExtractResult) =>
  `${chainName(table, shard)}: ${counted(changes, 'change')} in ${counted(batches, 'batch')}, watermark ${watermark ?? 'none'}`;

/** Each shard has an extractor of its own, and so each a record and a log. */
const serviceOf = (shard: AskedShard): Service => (typeof shard === 'object' ? `extractor-${shard.name}` : 'extractor');

function sayToLog(results: readonly ExtractResult[]): void {
  for (const result of results)
    logger[result.changes > 0 ? 'info' : 'debug']({ table: result.table, changes: result.changes }, report(result));
}

export const extractCommand: CommandModule<object, ExtractArguments> = {
  command: 'extract',
  describe: 'Read what changed in the source since the watermark and write it to the change log',
  builder: {
    table: { type: 'string', array: true, requiresArg: true, describe: 'Only these tables; all by default' },
    full: {
      type: 'boolean',
      describe: 'Read every row again (repeats are absorbed); needed after the source was restored',
    },
    'max-rows-per-second': {
      type: 'number',
      requiresArg: true,
      describe: 'Most rows to read from a table in a second, to spare the source',
    },
    shard: {
      type: 'string',
      requiresArg: true,
      describe:
        'Only this part of each table: 2/4 (of four, by a hash of the key), or 2/customer_id:10001,20001 (the second of the ranges that begin at these values); 1/1 extracts it whole again',
    },
    watch: { type: 'boolean', describe: 'Go on until interrupted, every CDC_EXTRACTION_INTERVAL_SECONDS' },
    service: {
      type: 'boolean',
      implies: 'watch',
      describe:
        'With --watch: be the extractor that status shows and stop ends, and log to LOG_DIR, as "tidemark start" does',
    },
    json: { type: 'boolean', describe: 'Print the result as JSON' },
  },
  handler: async ({ table = [], full = false, maxRowsPerSecond, shard: asked, watch, service, json }) => {
    if (maxRowsPerSecond !== undefined && !(maxRowsPerSecond > 0))
      throw new UsageError(
        `--max-rows-per-second is ${Number.isNaN(maxRowsPerSecond) ? 'not a number' : String(maxRowsPerSecond)}, accepted is one number above 0`,
        { hint: 'see "tidemark extract --help"' },
      );
    if (full && watch === true)
      throw new UsageError('--full reads every row once, --watch goes on for ever', {
        hint: 'leave out --full or --watch',
      });
    const shard = parseShard(asked);
    const settings = loadSettings();
    const begun: BegunLayouts = new Map();
    const interval = watch === true ? settings.extraction_interval_seconds : undefined;
    const part = {
      name: 'extract',
      service: serviceOf(shard),
      shard: typeof shard === 'object' ? shard.name : undefined,
      greeting: 'Starting CDC extractor',
      interval,
      asService: service === true,
    } as const;
    const print = (results: readonly ExtractResult[]) => {
      process.stdout.write(`${json === true ? JSON.stringify(results) : results.map(report).join('\n')}\n`);
    };
    const wasInterrupted = await runPart(
      settings,
      part,
      (signal) => extractTables({ settings, tables: table, full, maxRowsPerSecond, shard, begun, signal }),
      part.asService ? sayToLog : print,
    );
    if (wasInterrupted) sayInterrupted('extract');
  },
};
