import { lstat, readFile, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import * as z from 'zod';
import type { DatabaseSettings, Settings } from '../base/settings.js';
import { ensurePrivateFolder, replaceFile } from '../base/durable-file.js';
import { HeldError, TidemarkError, hasCode } from '../base/errors.js';
import { withLock } from '../base/lock-file.js';
import { processIdentity } from '../base/process.js';
import { isShardName } from '../batch/shard.js';

/** The parts of the pipeline that can run in the background. */
export const SERVICES = ['simulator', 'extractor', 'streamer', 'loader', 'reconciler', 'relay', 'console'] as const;
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
/** And whether that process lives. */
export type FoundService = ServiceRecord & { readonly is_alive: boolean };

const faultSchema = z.object({ at: z.string(), error: z.string() });

const stateSchema = z.object({
  /** The run it is of: what another left says nothing of this one. */
  run_id: z.string(),
  rounds: z.number().default(0),
  failed_rounds: z.number().default(0),
  /** When the last round ended, and the last one that did not fail. */
  last_round_at: z.string().nullable().default(null),
  last_success_at: z.string().nullable().default(null),
  last_error: faultSchema.nullable().default(null),
  /** The tables whose last round failed, and why. */
  table_errors: z.record(z.string(), faultSchema).default({}),
  /** It was told to end, and what it had in hand did not end in time. */
  gave_up: z.boolean().default(false),
});
/** How a run fares. That of a service is written after every round, for those who look while the warehouse is away. */
export type RunState = z.infer<typeof stateSchema>;

/** The state of a run that has done nothing yet. */
export const newState = (run_id: string): RunState => stateSchema.parse({ run_id });

const recordFile = (service: Service) => `${service}.json`;
const stateFile = (service: Service) => `${service}.state.json`;

/** Where what a service prints outside its log goes, such as why it could not begin. */
export const outputFile = (folder: string, service: Service): string => path.join(folder, `${service}.out`);

/** The ends of a pipeline as a record names them. */
function namesOf({ source, warehouse }: Settings): Pick<ServiceRecord, 'source' | 'warehouse'> {
  const name = ({ host, port, database }: DatabaseSettings) => `${host}:${port}/${database}`;
  return { source: name(source), warehouse: name(warehouse) };
}

/** @throws TidemarkError if a service that is registered here works between other databases than the settings name */
export function assertSamePipeline(record: ServiceRecord, settings: Settings): void {
  const { source, warehouse } = namesOf(settings);
  if (record.source === source && record.warehouse === warehouse) return;
  throw new TidemarkError(`the ${record.service} that runs here belongs to another pipeline`, {
    detail: `it works from ${record.source} to ${record.warehouse}, the settings say from ${source} to ${warehouse}`,
    hint: 'use the settings it was started with (ENV_FILE), or give each pipeline its own TIDEMARK_RUN_DIR, LOG_DIR and CDC_LOG_DIR',
  });
}

/**
 * Registers this process as the service of the folder of records, in the place of a dead one; once more does no harm.
 * @throws HeldError if another live process is registered
 */
export async function claimService(settings: Settings, service: Service, runId: string): Promise<ServiceRecord> {
  const folder = settings.run_dir;
  await makeRunFolder(folder);
  const { pid } = process;
  const known = await findService(folder, service);
  if (known?.is_alive === true && known.pid === pid) return known;
  return withLock(path.join(folder, '.register'), async () => {
    const holder = await findService(folder, service);
    if (holder?.is_alive === true)
      throw new HeldError(`the ${service} is already running (process ${holder.pid}, since ${holder.since})`, {
        hint: 'see "npx tidemark status"; "npx tidemark stop" ends it',
      });
    const [identity, since] = [(await processIdentity(pid)) ?? '', new Date().toISOString()];
    const record = { service, pid, identity, since, run_id: runId, ...namesOf(settings) };
    await writeJson(folder, recordFile(service), record);
    return record;
  });
}

/** Makes the folder of the records, for this user alone. */
export const makeRunFolder = (folder: string): Promise<void> =>
  ensurePrivateFolder(folder, 'TIDEMARK_RUN_DIR').catch((error: unknown) => refuseRunFolder(error, folder));

function refuseRunFolder(error: unknown, folder: string): never {
  if (!(error instanceof TidemarkError) && !hasCode(error, 'EACCES', 'EPERM', 'EROFS', 'ENOSPC', 'EISDIR')) throw error;
  throw new TidemarkError('the folder that says which services run cannot be used', {
    detail: `${folder} (${(error as Error).message})`,
    hint: 'give this user the folder, or set TIDEMARK_RUN_DIR to another one',
    cause: error,
  });
}

/** The record of a service, and whether its process lives; undefined where none was left, or none that can be read: nobody can be found by it. */
export async function findService(folder: string, service: Service): Promise<FoundService | undefined> {
  const record = await readJson(folder, recordFile(service), recordSchema);
  return record && { ...record, is_alive: (await processIdentity(record.pid)) === record.identity };
}

/** The services there may be here: those that every pipeline may have, and extractors of shards that have a record. */
export async function knownServices(folder: string): Promise<Service[]> {
  const recorded = (await readdir(folder).catch(() => [])).map((name) => name.replace(/\.json$/, '')).filter(isService);
  return [...new Set<Service>([...SERVICES, ...recorded.sort()])];
}

async function readJson<S extends z.ZodType>(folder: string, name: string, schema: S): Promise<z.infer<S> | undefined> {
  const file = path.join(folder, name);
  try {
    return (await lstat(file)).isFile() ? schema.parse(JSON.parse(await readFile(file, 'utf8'))) : undefined;
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof z.ZodError || hasCode(error, 'ENOENT', 'ENOTDIR'))
      return undefined;
    return refuseRunFolder(error, folder);
  }
}

const writeJson = (folder: string, name: string, content: object): Promise<void> =>
  replaceFile(folder, name, `${JSON.stringify(content)}\n`).catch((error: unknown) => refuseRunFolder(error, folder));

/** Takes the record of this process away, or that of a dead one; another live one's stays. */
export async function releaseService(folder: string, record: ServiceRecord): Promise<void> {
  const found = await findService(folder, record.service);
  if (found?.identity === record.identity && found.pid === record.pid)
    await rm(path.join(folder, recordFile(record.service)), { force: true });
}

/** Notes how a service fares. */
export const writeState = (folder: string, service: Service, state: RunState): Promise<void> =>
  writeJson(folder, stateFile(service), state);

/** How a service fares, or fared when it last ran. */
export const readState = (folder: string, service: Service): Promise<RunState | undefined> =>
  readJson(folder, stateFile(service), stateSchema);
