import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { withDatabase } from '../base/database.js';
import { outcomeOf, TidemarkError } from '../base/errors.js';
import { warnOnce } from '../base/logger.js';
import { passwordIn } from '../base/passwords.js';
import { PACKAGE_ROOT, type DatabaseSettings, type Settings } from '../base/settings.js';
import { within } from '../base/timeout.js';
import { lineageDatasets, type LineageDatasets } from '../warehouse/functions.js';

/** How long the server may take to answer, and events that are still to be sent when a run ends, in seconds. */
const ANSWER_SECONDS = 5;
const LAST_SECONDS = 2;
/** How often a run that writes says so, a server that did not answer is tried again, and columns are read anew. */
const PERIOD_MS = 60_000;
const MOST_WAITING = 1000;

const { version } = JSON.parse(readFileSync(path.join(PACKAGE_ROOT, 'package.json'), 'utf8')) as { version: string };
const producer = `https://github.com/tidemark/tidemark/tree/v${version}`;

const facet = (name: string, of: string, body: object) => ({
  _producer: producer,
  _schemaURL: `https://openlineage.io/spec/facets/${of}/${name}.json#/$defs/${name}`,
  ...body,
});

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

/** A part of the pipeline, as it is told of: `id` is its run of pipeline_metadata. */
interface Part extends Readonly<Record<'name' | 'id', string>> {
  readonly isWatching: boolean;
  readonly reads: keyof Omit<LineageDatasets, 'dimension_name'>;
}

/**
 * Tells an OpenLineage server what a part of the pipeline does: a run for the part, and one for each table or shard, from its first round until it
 * fails or the part ends. Events are sent beside the work, which neither waits for them nor fails of them; no value of a row is in them.
 */
export class OpenLineage {
  private readonly runs = new Map<string, Told>();
  private readonly failed = new Set<string>();
  private readonly ended = new AbortController();
  private readonly headers: Record<string, string> = { 'content-type': 'application/json' };
  private began = new Date();
  private known = { at: -Infinity, datasets: new Map<string, LineageDatasets>() };
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
  }

  start(): void {
    this.send('START', this.whole);
  }

  private get whole(): Told {
    return { id: this.part.id, job: this.part.name, at: 0 };
  }

  /** Does a round, and tells of its results, and of the tables that failed. */
  async round<R extends object>(work: Promise<readonly R[]>): Promise<readonly R[]> {
    this.began = new Date();
    try {
      const results = await work;
      results.forEach(this.note);
      return results;
    } catch (error) {
      const { result = [], failures = [] } = outcomeOf(error) ?? {};
      for (const each of [result].flat() as object[]) this.note(each);
      for (const { table, error: fault } of failures) if (table !== undefined) this.fail(table, fault);
      throw error;
    }
  }

  readonly note = (given: object): void => {
    const { table, shard = '', tables, changes, inserted_versions: written = changes }: Result = given;
    for (const name of tables ?? (table === undefined ? [] : [table])) {
      this.failed.delete(name);
      const told = this.runOf(name, shard);
      const rows = written === undefined || tables !== undefined ? undefined : (told.rows ?? 0) + written;
      const isDue = changes !== 0 && performance.now() > told.at + PERIOD_MS;
      this.runs.set(told.job, { ...told, rows, at: isDue ? performance.now() : told.at });
      if (isDue) this.send('RUNNING', { ...told, rows });
    }
  };

  /** Ends every run. What cannot be sent soon is not sent. */
  async end(how: 'COMPLETE' | 'ABORT' | 'FAIL', error?: unknown): Promise<void> {
    for (const told of this.runs.values()) this.send(how === 'ABORT' ? how : 'COMPLETE', told);
    this.send(how, this.whole, error);
    await within(LAST_SECONDS, this.sending).catch(() => undefined);
    this.ended.abort();
  }

  private runOf(table: string, shard: string): Told {
    const job = [this.part.name, table, shard].filter(Boolean).join('.');
    const found = this.runs.get(job);
    if (found !== undefined) return found;
    const begun = { id: randomUUID(), job, table, at: performance.now() };
    this.runs.set(job, begun);
    this.send('START', begun, undefined, this.began);
    return begun;
  }

  /** A table that fails in round after round has failed once. */
  private fail(table: string, error: unknown): void {
    if (this.failed.has(table)) return;
    this.failed.add(table);
    const runs = [...this.runs.values()].filter((each) => each.table === table);
    for (const told of runs.length > 0 ? runs : [this.runOf(table, '')]) {
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
    if (!response.ok) throw new Error(`it answers ${String(response.status)}`);
  }

  /** While the warehouse is away, an event goes without its datasets. */
  private async datasetsOf(table: string, rowCount: number | undefined): Promise<object> {
    const { source, warehouse, cdc_log_dir } = this.settings;
    const namespaceOf = ({ host, port }: DatabaseSettings) => `postgres://${host}:${String(port)}`;
    if (performance.now() > this.known.at + PERIOD_MS || !this.known.datasets.has(table)) {
      const places = [namespaceOf(source), source.database, namespaceOf(warehouse), cdc_log_dir] as const;
      const ask = (database: Parameters<typeof lineageDatasets>[0]) => lineageDatasets(database, producer, ...places);
      const rows = await withDatabase(warehouse, 'lineage', ask, ANSWER_SECONDS).catch(() => []);
      this.known = { at: performance.now(), datasets: new Map(rows.map((row) => [row.dimension_name, row])) };
    }
    const { inputs, outputs: [first, ...others] = [] } = this.known.datasets.get(table)?.[this.part.reads] ?? {};
    if (first === undefined) return {};
    const outputStatistics = facet('OutputStatisticsOutputDatasetFacet', '1-0-2', { rowCount });
    const counted = rowCount === undefined ? first : { ...first, outputFacets: { outputStatistics } };
    return { inputs, outputs: [counted, ...others] };
  }

  private async eventOf(
    state: State,
    { id: runId, job, table, rows }: Told,
    at: Date,
    error: unknown,
  ): Promise<object> {
    const { openlineage_namespace: namespace } = this.settings;
    const { name, id, isWatching } = this.part;
    // The message may hold values: the log of the run has it.
    const code = error instanceof TidemarkError && error.code !== undefined ? ` (${error.code})` : '';
    const failure = { message: `${job} failed${code}: the log of run ${id} says why`, programmingLanguage: 'SQL' };
    const parent = { run: { runId: id }, job: { namespace, name } };
    const type = { processingType: isWatching ? 'STREAMING' : 'BATCH', integration: 'TIDEMARK' };
    return {
      eventType: state,
      eventTime: at.toISOString(),
      producer,
      schemaURL: 'https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent',
      run: {
        runId,
        facets: {
          processing_engine: facet('ProcessingEngineRunFacet', '1-1-1', { name: 'Tidemark', version }),
          ...(table === undefined ? {} : { parent: facet('ParentRunFacet', '1-2-0', parent) }),
          ...(state === 'FAIL' ? { errorMessage: facet('ErrorMessageRunFacet', '1-0-1', failure) } : {}),
        },
      },
      job: { namespace, name: job, facets: { jobType: facet('JobTypeJobFacet', '2-0-4', type) } },
      ...(table === undefined ? {} : await this.datasetsOf(table, rows)),
    };
  }
}
