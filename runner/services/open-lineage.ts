import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { connect, type Database } from '../base/database.js';
import { outcomeOf, TidemarkError } from '../base/errors.js';
import { warnOnce } from '../base/logger.js';
import { passwordIn } from '../base/passwords.js';
import { PACKAGE_ROOT, type DatabaseSettings, type Settings } from '../base/settings.js';
import { within } from '../base/timeout.js';
import { lineageEvent } from '../warehouse/functions.js';

/** How long the server and the warehouse may take to answer, and events that are still to be sent when a run ends, in seconds. */
const ANSWER_SECONDS = 5;
const LAST_SECONDS = 2;
/** How often a run that writes says so, and a server that did not answer is tried again. */
const PERIOD_MS = 60_000;
const MOST_WAITING = 1000;

const { version } = JSON.parse(readFileSync(path.join(PACKAGE_ROOT, 'package.json'), 'utf8')) as { version: string };
const producer = `https://github.com/tidemark/tidemark/tree/v${version}`;
const namespaceOf = ({ host, port }: DatabaseSettings) => `postgres://${host}:${port}`;

/** What is told of: the part itself, or its work on one table or shard of it. */
interface Told {
  readonly id: string;
  readonly job: string;
  readonly table?: string;
  /** Rows written, where results say how many. */
  readonly rows?: number | undefined;
  readonly at: number;
}
type State = 'START' | 'RUNNING' | 'COMPLETE' | 'ABORT' | 'FAIL';

/** What a round counted of a table, or of which tables it brought changes. */
type Result = Partial<Record<'changes' | 'inserted_versions', number>> & {
  readonly table?: string;
  readonly shard?: string;
  readonly tables?: readonly string[];
};

/** A part of the pipeline, as it is told of: `id` is its run of pipeline_metadata, `reads` the datasets of tidemark.lineage_datasets. */
type Part = Readonly<{ name: string; id: string; reads: string; isWatching: boolean }>;

/**
 * Tells an OpenLineage server what a part of the pipeline does: a run for the part, and one for each table or shard, from its first round until it
 * fails or the part ends. Events are sent beside the work, which neither waits for them nor fails of them; no value of a row is in them.
 */
export class OpenLineage {
  private readonly runs = new Map<string, Told>();
  private readonly failed = new Set<string>();
  private readonly ended = new AbortController();
  private readonly headers: Record<string, string> = { 'content-type': 'application/json' };
  private readonly whole: Told;
  private readonly database: Database;
  private sending: Promise<void> = Promise.resolve();
  private waiting = 0;
  private silentUntil = -Infinity;

  /** @throws UsageError for a file with a key that cannot be used */
  constructor(
    private readonly settings: Settings,
    private readonly part: Part,
    private readonly url: URL,
  ) {
    const { openlineage_api_key: key, openlineage_api_key_file: file } = settings;
    const given = key ?? (file === undefined ? undefined : passwordIn('OPENLINEAGE_API_KEY_FILE', file));
    if (given !== undefined) this.headers.authorization = `Bearer ${given}`;
    if (url.pathname === '/') url.pathname = '/api/v1/lineage';
    this.whole = { id: part.id, job: part.name, at: 0 };
    this.database = connect(settings.warehouse, 'lineage', 1, ANSWER_SECONDS);
  }

  start(): void {
    this.send('START', this.whole);
  }

  /** Tells of the results of a round that began at a moment, and of the tables that failed. */
  noteRound(results: readonly object[], error: unknown, began: Date): void {
    for (const each of results) this.note(each, began);
    for (const { table, error: fault } of outcomeOf(error)?.failures ?? [])
      if (table !== undefined) this.fail(table, fault, began);
  }

  note({ table, shard = '', tables, changes, inserted_versions: written = changes }: Result, began = new Date()): void {
    for (const name of tables ?? (table === undefined ? [] : [table])) {
      this.failed.delete(name);
      const told = this.runOf(name, shard, began);
      const rows = written === undefined || tables !== undefined ? undefined : (told.rows ?? 0) + written;
      const isDue = changes !== 0 && performance.now() > told.at + PERIOD_MS;
      this.runs.set(told.job, { ...told, rows, at: isDue ? performance.now() : told.at });
      if (isDue) this.send('RUNNING', { ...told, rows });
    }
  }

  /** Ends every run. What cannot be sent soon is not sent. */
  async end(how: 'COMPLETE' | 'ABORT' | 'FAIL', error?: unknown): Promise<void> {
    for (const told of this.runs.values()) this.send(how === 'ABORT' ? how : 'COMPLETE', told);
    this.send(how, this.whole, error);
    await within(LAST_SECONDS, this.sending).catch(() => undefined);
    this.ended.abort();
    await this.database.end({ timeout: 0 });
  }

  private runOf(table: string, shard: string, began: Date): Told {
    const job = [this.part.name, table, shard].filter(Boolean).join('.');
    const found = this.runs.get(job);
    if (found !== undefined) return found;
    const begun = { id: randomUUID(), job, table, at: performance.now() };
    this.runs.set(job, begun);
    this.send('START', begun, undefined, began);
    return begun;
  }

  /** A table that fails in round after round has failed once. */
  private fail(table: string, error: unknown, began: Date): void {
    if (this.failed.has(table)) return;
    this.failed.add(table);
    const runs = [...this.runs.values()].filter((each) => each.table === table);
    for (const told of runs.length > 0 ? runs : [this.runOf(table, '', began)]) {
      this.send('FAIL', told, error);
      this.runs.delete(told.job);
    }
  }

  private send(state: State, told: Told, error?: unknown, at = new Date()): void {
    if (this.waiting >= MOST_WAITING) return;
    this.waiting += 1;
    this.sending = this.sending
      .then(() => this.post(state, told, at, error))
      .catch((fault: unknown) => {
        this.silentUntil = performance.now() + PERIOD_MS;
        const { cause, message } = fault as Error;
        const reason = cause instanceof Error ? cause.message : message;
        warnOnce('openlineage', `the OpenLineage server at ${this.url.host} is not told what is done here: ${reason}`);
      })
      .finally(() => (this.waiting -= 1));
  }

  private async post(state: State, told: Told, at: Date, error: unknown): Promise<void> {
    if (performance.now() < this.silentUntil) return;
    const body = JSON.stringify(await this.eventOf(state, told, at, error));
    const signal = AbortSignal.any([this.ended.signal, AbortSignal.timeout(ANSWER_SECONDS * 1000)]);
    const response = await fetch(this.url, { method: 'POST', headers: this.headers, body, redirect: 'error', signal });
    await response.body?.cancel();
    if (!response.ok) throw new Error(`it answers ${response.status}`);
  }

  /** The warehouse adds what is known of run, job and datasets; while it is away an event goes without. Of an error it is told the code alone. */
  private async eventOf(eventType: State, { id: runId, job: name, ...told }: Told, at: Date, error: unknown) {
    const { source, warehouse, cdc_log_dir, openlineage_namespace: namespace } = this.settings;
    const schemaURL = 'https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent';
    const event = {
      eventType,
      eventTime: at.toISOString(),
      producer,
      schemaURL,
      run: { runId },
      job: { namespace, name },
    };
    const places = [namespaceOf(source), source.database, namespaceOf(warehouse), cdc_log_dir] as const;
    const code = error instanceof TidemarkError ? error.code : undefined;
    const asked = lineageEvent(this.database, event, { ...this.part, ...told, version, code }, ...places);
    return within(ANSWER_SECONDS, asked).catch(() => event);
  }
}
