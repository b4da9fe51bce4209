import { chainName, parseShard } from '../batch/shard.js';
import { UsageError } from '../base/errors.js';
import { counted } from '../base/text-table.js';
import type { BegunLayouts } from '../extract/shard-layout.js';
import type { ExtractResult } from '../extract/table.js';
import { extractTables } from '../extract/tables.js';
import { runPart } from '../services/run.js';
import { TABLE_OPTION, defineCommand, flag, logEach, number, numberOf, serviceOption, text } from './command.js';

const report = ({ table, shard = '', changes, batches, watermark }: ExtractResult) =>
  `${chainName(table, shard)}: ${counted(changes, 'change')} in ${counted(batches, 'batch')}, watermark ${watermark ?? 'none'}`;

export const command = defineCommand(
  {
    examples: {
      extract: 'Every table, once',
      'extract --table orders customers': 'These two',
      'extract --watch --shard 2/4': 'The second quarter of each table, until interrupted',
    },
    options: {
      table: TABLE_OPTION,
      full: flag('Read every row again (repeats are absorbed); needed after the source was restored'),
      'max-rows-per-second': number('Most rows to read from a table in a second, to spare the source'),
      shard: text(
        'Only this part of each table: 2/4 (of four, by a hash of the key), or 2/customer_id:10001,20001 (the second of the ranges that begin at these values); 1/1 extracts it whole again',
      ),
      watch: flag('Go on until interrupted, every CDC_EXTRACTION_INTERVAL_SECONDS'),
      service: serviceOption('extractor'),
    },
  },
  async ({ table: tables = [], full = false, watch = false, service = false, ...given }, { settings, print }) => {
    const maxRowsPerSecond = numberOf('extract', 'max-rows-per-second', given.maxRowsPerSecond);
    if (full && watch)
      throw new UsageError('--full reads every row once, --watch goes on for ever', {
        hint: 'leave out --full or --watch',
      });
    const shard = parseShard(given.shard);
    const name = typeof shard === 'object' ? shard.name : undefined;
    const begun: BegunLayouts = new Map();
    await runPart(
      settings,
      {
        name: 'extract',
        // Each shard has an extractor of its own, and so each a record and a log.
        service: service ? (name === undefined ? 'extractor' : `extractor-${name}`) : undefined,
        shard: name,
        greeting: 'Starting CDC extractor',
        interval: watch ? settings.cdc_extraction_interval_seconds : undefined,
      },
      (signal) =>
        extractTables({
          ...{ settings, tables, full, maxRowsPerSecond, shard, begun, isWatching: watch, signal },
          lockPatience: watch ? 0 : undefined,
        }),
      service ? logEach(report) : (results, error) => print(results, results.map(report).join('\n'), error),
    );
  },
);
