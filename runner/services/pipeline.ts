import path from 'node:path';
import { rememberedMappings } from '../change-log/known-mappings.js';
import type { DatabaseSettings, Settings } from '../base/settings.js';
import { isAway, withDatabase, type Database } from '../base/database.js';
import { withLock } from '../base/lock-file.js';
import { serverStatuses, startServers } from '../embedded/servers.js';
import { describeError } from '../base/errors.js';
import { logger } from '../base/logger.js';
import { makeRunFolder, type BaseService, type Service } from './record.js';
import { startServices, stopServices, type Stopped } from './background.js';
import { describeTable } from '../source/table.js';
import { dimensionMappings } from '../warehouse/batches.js';
import { requireDemoSource } from '../source/server.js';
import type { DimensionMapping } from '../batch/mapping.js';

/**
 * Starts services in the background: brings up the embedded servers that were made here and are down, sees that both ends can be used, and
 * starts what does not run. Two at once take turns. With the extractor goes the reconciler, where a table's deletes are found by it.
 * @throws TidemarkError if an end cannot be used, or a service does not come up
 */
export async function startPipeline(settings: Settings, services: readonly BaseService[]): Promise<void> {
  await makeRunFolder(settings.run_dir);
  await withLock(path.join(settings.run_dir, '.lock'), async () => {
    await bringUpServers(settings);
    const mappings = await assertReady(settings, services);
    const needsReconciler = services.includes('extractor') && mappings.some(({ deletes }) => deletes === 'reconcile');
    await startServices(settings, [
      ...services.filter((service) => service !== 'reconciler'),
      ...(needsReconciler ? ['reconciler' as const] : []),
    ]);
  });
}

/**
 * Sees that the services can do their work: both ends are there, the warehouse is migrated, the source has a table to extract, and is the demo
 * where the simulator is to write to it.
 * @returns the mappings of the tables that are not paused
 * @throws TidemarkError or UsageError that says what is wrong
 */
export async function assertReady(
  settings: Settings,
  services: readonly Service[],
): Promise<readonly DimensionMapping[]> {
  const known =
    (await assertUsable(settings, settings.warehouse, dimensionMappings)) ??
    (await rememberedMappings(settings.cdc_log_dir)) ??
    [];
  const mappings = known.filter(({ is_paused }) => !is_paused);
  await assertUsable(settings, settings.source, async (source) => {
    if (services.includes('simulator')) await requireDemoSource(source);
    const failures: unknown[] = [];
    for (const mapping of mappings)
      await describeTable(source, mapping).catch((error: unknown) => {
        failures.push(error);
      });
    // One table that is not as it must be stops no other.
    if (failures.length > 0 && failures.length === mappings.length) throw failures[0];
    for (const failure of failures) logger.warn(describeError(failure, false));
  });
  return mappings;
}

/**
 * Ends every service that runs here, or those that are named, when no start or other stop is at it.
 * @throws TidemarkError as stopServices does
 */
export async function stopPipeline(settings: Settings, services?: readonly Service[]): Promise<Stopped[]> {
  await makeRunFolder(settings.run_dir);
  return withLock(path.join(settings.run_dir, '.lock'), () => stopServices(settings, services));
}

async function bringUpServers(settings: Settings): Promise<void> {
  const down = (await serverStatuses(settings)).filter(({ state }) => state === 'stopped');
  for (const { role } of down) {
    const answers = await withDatabase(settings[role], 'start', () => Promise.resolve(true)).catch(
      (error: unknown) => !isAway(error),
    );
    if (answers) continue;
    await startServers(settings);
    return;
  }
}

/** A server that is away is no obstacle once the pipeline has run: the services try again. Any other fault would never pass. */
async function assertUsable<T>(
  settings: Settings,
  end: DatabaseSettings,
  use: (database: Database) => Promise<T>,
): Promise<T | undefined> {
  try {
    return await withDatabase(end, 'start', use);
  } catch (error) {
    if (!isAway(error) || (await rememberedMappings(settings.cdc_log_dir)) === undefined) throw error;
    logger.warn(`${(error as Error).message}: the services try again until it does`);
    return undefined;
  }
}
