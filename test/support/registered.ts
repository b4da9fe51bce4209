import { cp } from 'node:fs/promises';
import path from 'node:path';
import { proposeRegistrations, type Proposal } from '../../runner/registration/propose.js';
import { PROJECT_ROOT, type Settings } from '../../runner/base/settings.js';
import { writeDimensionFile } from '../../runner/registration/files.js';
import { migrateDimensions } from '../../runner/warehouse/migrate.js';
import { NOTHING_SAID as OF_NOTHING, type RegistrationOptions } from '../../runner/registration/options.js';
import { parseTableName } from '../../runner/source/catalog.js';
import type { TestPipeline } from './databases.js';
import { ALL_PARTITIONED } from './partitions.js';
import { asOwner } from './roles.js';

/** Nothing, but that deletes are not to be found: what a test is not about. */
export const NOTHING_SAID: RegistrationOptions = { ...OF_NOTHING, ...ALL_PARTITIONED, deletes: 'none' };

/** The settings of a pipeline with a folder of dimensions of its own, which begins as the project's. */
export async function withDimensionsFolder(pipeline: TestPipeline): Promise<Settings> {
  const dimensions_dir = path.join(pipeline.folder, 'dimensions');
  await cp(path.join(PROJECT_ROOT, 'migrations', 'dimensions'), dimensions_dir, { recursive: true });
  return { ...pipeline.settings, dimensions_dir };
}

type Proposed = Extract<Proposal, { text: string }>;

/** The migration that `tidemark add` would write. @throws what keeps the table from being registered */
export async function propose(
  settings: Settings,
  table: string,
  said: Partial<RegistrationOptions> = {},
): Promise<Proposed> {
  const [proposal] = await proposeRegistrations(settings, [parseTableName(table)], { ...NOTHING_SAID, ...said });
  if (proposal === undefined || 'error' in proposal) throw proposal?.error ?? new Error('no answer');
  return proposal;
}

/** Registers a source table as a user would: add, then migrate, but for the functions, which the warehouse has. */
export async function register(
  settings: Settings,
  table: string,
  said: Partial<RegistrationOptions> = {},
): Promise<Proposed> {
  const proposed = await propose(settings, table, said);
  await writeDimensionFile(settings.dimensions_dir, proposed.words, proposed.text);
  await migrateDimensions(asOwner(settings.warehouse), settings.dimensions_dir);
  return proposed;
}
