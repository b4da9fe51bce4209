import type { Settings } from '../base/settings.js';
import { withDatabase } from '../base/database.js';
import { UsageError } from '../base/errors.js';
import { shardNames, tableState, type TableState } from '../extract/shard-layout.js';
import { chainName, isShardName, parseShard } from '../batch/shard.js';
import { formatRows } from '../base/text-table.js';
import { dimensionMappings } from '../warehouse/functions.js';
import { ledgerChains } from '../warehouse/batches.js';
import { listCheckpoints, rewind, watermarksOf, type RewindTarget } from '../operate/watermark.js';
import { eachTable, selectUnpaused } from '../run/each-table.js';
import { TABLE_OPTION, defineAnswer, defineCommand, defineGroup, number, printAll, text } from './command.js';

const SHARD_OPTION = text('Of a table that is extracted by shards: this one, as list names it');

const rows = (list: readonly object[]) => (list.length === 0 ? 'nothing was extracted yet' : formatRows(list));

/** The one table that was named, and of it the shards that are meant. */
async function chainsOf(settings: Settings, tables: readonly string[], shard: string | undefined) {
  return withDatabase(settings.warehouse, 'watermark', async (warehouse) => {
    const [mapping, ...others] = selectUnpaused(await dimensionMappings(warehouse), tables);
    if (mapping === undefined || others.length > 0)
      throw new UsageError('this is for one table at a time', { hint: 'name it: --table <name>' });
    const { dimension_name: name } = mapping;
    const state = await tableState(settings, name, await ledgerChains(warehouse, name));
    return { name, chains: shardsMeant(state, shard) };
  });
}

/** The shard that was named, by its name or as --shard of extract has it; else all of the present layout; the whole table is one without a name. */
function shardsMeant({ table, chains, present }: TableState, named: string | undefined): string[] {
  if (named === undefined) return shardNames(present);
  const asked = isShardName(named) ? named : parseShard(named);
  const name = typeof asked === 'object' ? asked.name : asked === 'whole' ? '' : (asked ?? '');
  if (chains.some(({ shard }) => shard === name)) return [name];
  throw new UsageError(`${table} has no shard ${named} here`, {
    hint: `there are: ${chains.map(({ shard }) => (shard === '' ? '1/1, the whole table' : shard)).join(', ')}`,
  });
}

/** A whole number is a sequence, anything else an instant with its zone. */
function readTarget(to: string): RewindTarget {
  if (/^[0-9]{1,15}$/.test(to)) return { sequence: Number(to) };
  if (/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})$/.test(to) && !Number.isNaN(Date.parse(to)))
    return { instant: to };
  throw new UsageError(`--to is ${to}, accepted is a sequence, or an instant such as 2026-02-01T09:00:00Z`, {
    hint: 'npx tidemark watermark show --table <name> lists the checkpoints',
  });
}

const list = defineCommand({ options: { table: TABLE_OPTION } }, async ({ table = [] }, { settings, print }) => {
  const found = withDatabase(settings.source, 'watermark', (source) =>
    withDatabase(settings.warehouse, 'watermark', async (warehouse) =>
      eachTable(
        settings.warehouse,
        selectUnpaused(await dimensionMappings(warehouse), table),
        ({ dimension_name: name }) => watermarksOf(settings, name, source, warehouse),
        (watermarks) => watermarks.flat(),
      ),
    ),
  );
  await printAll(found, print, rows);
});

const show = defineAnswer(
  { options: { table: TABLE_OPTION, shard: SHARD_OPTION, last: { ...number('How many'), default: 20 } } },
  async ({ table = [], shard, last }, settings) => {
    const { name, chains } = await chainsOf(settings, table, shard);
    const [chain, ...others] = chains;
    if (chain === undefined || others.length > 0)
      throw new UsageError(`${name} is extracted by shards, each with checkpoints of its own`, {
        hint: 'name one: --shard <name>, as "tidemark watermark list" shows it',
      });
    const found = await listCheckpoints(settings, name, last, chain);
    return [found, rows(found)];
  },
);

const rewindTo = defineAnswer(
  {
    options: {
      table: TABLE_OPTION,
      shard: SHARD_OPTION,
      to: { ...text('A sequence, or an instant such as 2026-02-01T09:00:00Z'), demandOption: true },
    },
  },
  async ({ table = [], shard, to }, settings) => {
    const target = readTarget(to);
    const { name, chains } = await chainsOf(settings, table, shard);
    if ('sequence' in target && chains.length > 1)
      throw new UsageError(`${name} is extracted by shards, each with sequences of its own`, {
        hint: 'give an instant, for all of them, or name one: --shard <name>',
      });
    const results = [];
    const said = [];
    for (const chain of chains) {
      const earlier = await rewind(settings, name, target, chain);
      const where =
        earlier === undefined ? 'from the beginning' : `from checkpoint ${earlier.sequence} of ${earlier.extracted_at}`;
      results.push({ table: name, ...(chain === '' ? {} : { shard: chain }), sequence: earlier?.sequence ?? null });
      said.push(`${chainName(name, chain)}: extraction goes on ${where}, and what is known is absorbed`);
    }
    return [results.length === 1 ? results[0] : results, said.join('\n')];
  },
);

export const command = defineGroup({
  list: ['how far each table, or each of its shards, has come, and what waits to be loaded', list],
  show: ['the newest checkpoints of a table', show],
  rewind: [
    'go on from an earlier checkpoint: what was written since is read again, and repeats are absorbed',
    rewindTo,
  ],
});
