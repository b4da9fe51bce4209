import path from 'node:path';
import { UsageError } from '../base/errors.js';
import { exportDbt } from '../operate/export.js';
import { formatRemovedExport, removeExport } from '../operate/export-places.js';
import { GRACE_HOURS, exportTable, formatExported } from '../operate/export-table.js';
import { interruptible } from '../run/rounds.js';
import { defineAnswer, flag, number, numberOf, text } from './command.js';

export const command = defineAnswer(
  {
    examples: {
      'export dbt --output ../shop_dbt': 'Into the folder of a dbt project',
      'export t --format parquet --to ../t': 'A table, as files: those that differ',
      'export t --to ../t --remove': 'Remove that export',
    },
    positionals: {
      what: {
        type: 'string',
        demandOption: true,
        describe: 'dbt: sources, and macros as of a moment; or a table, by the name of its dimension',
      },
    },
    options: {
      output: { ...text('dbt: folder of the project'), default: '.' },
      format: { ...text('A table: what its history is written as'), choices: ['parquet'] },
      to: text('A table: the folder, of this table alone'),
      'grace-hours': {
        ...number('Hours that what is replaced stays for its readers'),
        defaultDescription: String(GRACE_HOURS),
      },
      remove: { ...flag('Remove the export that is in --to'), conflicts: ['format', 'grace-hours'] },
    },
    epilogue:
      'Of a table: ended versions by the month of their end, and those in force, from one snapshot; only what differs is written. ' +
      'manifest.json names the files and is put in its place last: read by it (docs/recipes.md). What the role may not read is left out. ' +
      'Needs the package @duckdb/node-api.',
  },
  async ({ what, output, format, to, graceHours, remove = false }, settings) => {
    if (format === undefined && !remove) {
      if (what !== 'dbt' || to !== undefined)
        throw new UsageError(`export ${what} takes a format`, {
          hint: `npx tidemark export ${what} --format parquet --to <folder>; without one it is "export dbt"`,
        });
      const files = await exportDbt(settings, path.resolve(output));
      return [{ files }, files.join('\n')];
    }
    if (to === undefined) throw new UsageError(`export ${what} takes a folder`, { hint: 'give it: --to' });
    if (remove) {
      const removed = await removeExport(settings, what, to);
      return [removed, formatRemovedExport(removed)];
    }
    const grace = numberOf('export', 'grace-hours', graceHours, { least: 0 });
    const exported = await interruptible(settings, (signal) =>
      exportTable(settings, what, path.resolve(to), grace, signal),
    );
    return [exported, formatExported(exported)];
  },
);
