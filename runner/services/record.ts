import { lstat, readFile, readdir, rename, rm, unlink } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import type { DatabaseSettings, Settings } from '../base/settings.js';
import { AlreadyPublishedError, ensurePrivateFolder, publishFile, replaceFile } from '../base/durable-file.js';
import { HeldError, TidemarkError, hasCode } from '../base/errors.js';
import { processIdentity } from '../base/process.js';
import { isShardName } from '../batch/shard.js';

/** The parts of the pipeline that can run in the background. */
export const SERVICES = ['simulator', 'extractor', 'loader', 'reconciler'] as const;
export type BaseService = (typeof SERVICES)[number];
/** An extractor of a shard is a service of its own, named after the shard. */
export type Service = BaseService | `extractor-${string}`;

/** Whether a name can be that of a service. */
export const isService = (name: unknown): name is Service =>
  typeof name === 'string' &&
  ((SERVICES as readonly string[]).includes(name) ||
    (name.startsWith('extractor-') && isShardName(name.slice('extractor-'.length))));

const recordSchema = z.object({
  service: z.custom<Service>(isService),
  pid: z.number().int(),
  /** Tells the process from a later one of that number. */
  identity: z.string(),
  since: z.string(),
  run_id: z.string(),
  /** The databases it works between: another pipeline must not share its folders. */
  source: z.string(),
  warehouse: z.string(),
});
/** Which process a service is: written by that process itself, so that it is true however it was started. */
export type ServiceRecord = z.infer<typeof recordSchema>;

const faultSchema = z.object({ at: z.string(), error: z.string() });

const stateSchema = z.object({
  rounds: z.number(),
  failed_rounds: z.number(),
  /** When the last round ended, and the last one that did not fail. */
  last_round_at: z.string().nullable(),
  last_success_at: z.string().nullable(),
  last_error: faultSchema.nullable(),
  /** The tables whose last round failed, and why. */
  table_errors: z.record(z.string(), faultSchema),
  /** The run it is of: what another left says nothing of this one. */
  run_id: z.string(),
  /** It was told to end, and what it had in hand did not end in time. */
  gave_up: z.boolean(),
});
/** How a service fares: written after every round, for those who look. */
export type ServiceState = z.infer<typeof stateSchema>;

const recordFile = (service: Service) => `${service}.json`;
const stateFile = (service: Service) => `${service}.state.json`;

/** Where what a service prints outside its log goes, such as why it could not begin. */
export const outputFile = (folder: string, service: Service): string => path.join(folder, `${service}.out`);

/** Both ends of a pipeline. */
export type Ends = Pick<Settings, 'source' | 'warehouse'>;

const nameOf = ({ host, port, database }: DatabaseSettings): string => `${host}:${String(port)}/${database}`;

/**
 * @throws TidemarkError if a service that is registered here works between other databases than the settings name
 */
export function assertSamePipeline(record: ServiceRecord, ends: Ends): void {
  const [source, warehouse] = [nameOf(ends.source), nameOf(ends.warehouse)];
  if (record.source === source && record.warehouse === warehouse) return;
  throw new TidemarkError(`the ${record.service} that runs here belongs to another pipeline`, {
    detail: `it works from ${record.source} to ${record.warehouse}, the settings say from ${source} to ${warehouse}`,
    hint: 'use the settings it was started with (ENV_FILE), or give each pipeline its own TIDEMARK_RUN_DIR, LOG_DIR and CDC_LOG_DIR',
  });
}

/**
 * Registers this process as the service of that folder. What a dead process left is taken away.
 * @throws TidemarkError if a live process is registered
 */
export async function claimService(
  folder: string,
  service: Service,
  runId: string,
  ends: Ends,
): Promise<ServiceRecord> {
  await makeRunFolder(folder);
  const identity = (await processIdentity(process.pid)) ?? '';
  const known = await findService(folder, service);
  if (known?.identity === identity && known.pid === process.pid) return known;
  const record = {
    service,
    pid: process.pid,
    identity,
    since: new Date().toISOString(),
    run_id: runId,
    source: nameOf(ends.source),
    warehouse: nameOf(ends.warehouse),
  };
  for (;;) {
    try {
      await publishFile(folder, recordFile(service), `${JSON.stringify(record)}\n`);
      return record;
    } catch (error) {
      if (!(error instanceof AlreadyPublishedError)) throw explainRunFolder(error, folder);
      const holder = await findService(folder, service);
      if (holder?.is_alive === true) throw alreadyRuns(holder);
      await removeDead(folder, service, holder);
    }
  }
}

/** Makes the folder of the records, for this user alone. */
export async function makeRunFolder(folder: string): Promise<void> {
  await ensurePrivateFolder(folder, 'TIDEMARK_RUN_DIR').catch((error: unknown) => {
    throw explainRunFolder(error, folder);
  });
}

const explainRunFolder = (error: unknown, folder: string): unknown =>
  error instanceof TidemarkError || hasCode(error, 'EACCES', 'EPERM', 'EROFS', 'ENOSPC', 'EISDIR')
    ? new TidemarkError('the folder that says which services run cannot be used', {
        detail: `${folder} (${error instanceof Error ? error.message : String(error)})`,
        hint: 'give this user the folder, or set TIDEMARK_RUN_DIR to another one',
        cause: error,
      })
    : error;

const alreadyRuns = ({ service, pid, since }: ServiceRecord) =>
  new HeldError(`the ${service} is already running (process ${String(pid)}, since ${since})`, {
    hint: 'see "npx tidemark status"; "npx tidemark stop" ends it',
  });

/** Moves a dead record aside and looks at it again: what was taken from a new holder at this moment is put back. */
async function removeDead(folder: string, service: Service, seen: ServiceRecord | undefined): Promise<void> {
  const file = path.join(folder, recordFile(service));
  const aside = `${file}.${String(process.pid)}`;
  try {
    await rename(file, aside);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return;
    throw error;
  }
  const taken = await readRecord(aside);
  if (taken !== undefined && taken.identity !== seen?.identity && (await processIdentity(taken.pid)) === taken.identity)
    await rename(aside, file);
  else await unlink(aside);
}

/** The record of a service, and whether its process lives; undefined where none was left. */
export async function findService(
  folder: string,
  service: Service,
): Promise<(ServiceRecord & { is_alive: boolean }) | undefined> {
  const record = await readRecord(path.join(folder, recordFile(service)));
  if (record === undefined) return undefined;
  return { ...record, is_alive: (await processIdentity(record.pid)) === record.identity };
}

/** The services there may be here: the three, and extractors of shards that have a record. */
export async function knownServices(folder: string): Promise<Service[]> {
  const names = await readdir(folder).catch(() => []);
  const others = names.flatMap((name) =>
    name.endsWith('.json') && !name.endsWith('.state.json') ? [name.slice(0, -'.json'.length)] : [],
  );
  return [
    ...SERVICES,
    ...others
      .filter(isService)
      .filter((name) => !(SERVICES as readonly string[]).includes(name))
      .sort(),
  ];
}

/** A record that cannot be read is worth as much as none: nobody can be found by it. */
async function readRecord(file: string): Promise<ServiceRecord | undefined> {
  return readJson(file, recordSchema);
}

async function readJson<T>(file: string, schema: z.ZodType<T>): Promise<T | undefined> {
  try {
    if (!(await lstat(file)).isFile()) return undefined;
    return schema.parse(JSON.parse(await readFile(file, 'utf8')));
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof z.ZodError || hasCode(error, 'ENOENT', 'ENOTDIR'))
      return undefined;
    throw explainRunFolder(error, path.dirname(file));
  }
}

/** Takes the record of this process away, or that of a dead one; another live one's stays. */
export async function releaseService(folder: string, record: ServiceRecord): Promise<void> {
  const found = await readRecord(path.join(folder, recordFile(record.service)));
  if (found?.identity === record.identity && found.pid === record.pid)
    await rm(path.join(folder, recordFile(record.service)), { force: true });
}

/** Notes how a service fares. */
export async function writeState(folder: string, service: Service, state: ServiceState): Promise<void> {
  await replaceFile(folder, stateFile(service), `${JSON.stringify(state)}\n`);
}

/** How a service fares, or fared when it last ran. */
export async function readState(folder: string, service: Service): Promise<ServiceState | undefined> {
  return readJson(path.join(folder, stateFile(service)), stateSchema);
}
