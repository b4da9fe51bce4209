import { readFileSync, readdirSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { TidemarkError, withOutcome } from '../../runner/base/errors.js';
import { PROJECT_ROOT } from '../../runner/base/settings.js';
import { OpenLineage } from '../../runner/services/open-lineage.js';
import { runCli, startCli } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { startReceiver, type Receiver } from '../support/receiver.js';
import { until } from '../support/wait.js';

/** The public schemas, as they are; without them nothing here passes. */
const SCHEMAS = path.join(PROJECT_ROOT, 'test', 'vendor', 'openlineage');
const ajv = new Ajv2020({ strict: false });
addFormats.default(ajv);
for (const file of readdirSync(SCHEMAS).filter((name) => name.endsWith('.json')))
  ajv.addSchema(JSON.parse(readFileSync(path.join(SCHEMAS, file), 'utf8')) as object);

type Facet = { readonly _schemaURL: string } & Record<string, unknown>;
type Facets = Record<string, Facet>;
interface Dataset {
  readonly namespace: string;
  readonly name: string;
  readonly facets: Facets & {
    schema: Facet & { fields: { name: string; type?: string }[] };
    columnLineage: Facet & { fields: Record<string, { inputFields: { name: string; field: string }[] }> };
  };
  readonly outputFacets?: Facets;
}
interface Event {
  readonly eventType: string;
  readonly eventTime: string;
  readonly schemaURL: string;
  readonly run: { readonly runId: string; readonly facets: Facets };
  readonly job: { readonly namespace: string; readonly name: string; readonly facets: Facets };
  readonly inputs?: readonly Dataset[];
  readonly outputs?: readonly Dataset[];
}

/** What the public schemas say against an event and its facets. */
function faultsOf(event: Event): string[] {
  const ofDatasets = [...(event.inputs ?? []), ...(event.outputs ?? [])].flatMap(({ facets, outputFacets }) => [
    ...Object.values(facets),
    ...Object.values(outputFacets ?? {}),
  ]);
  const facets = [...Object.values(event.run.facets), ...Object.values(event.job.facets), ...ofDatasets];
  return [event, ...facets].flatMap((each) => {
    const schema = 'run' in each && 'schemaURL' in each ? (each as Event).schemaURL : each._schemaURL;
    const validate = ajv.getSchema(schema);
    if (validate === undefined) return [`${schema} is not there`];
    return validate(each) === true ? [] : (validate.errors ?? []).map((fault) => JSON.stringify(fault));
  });
}

let pipeline: TestPipeline;
let server: Receiver;
beforeAll(async () => {
  pipeline = await createPipeline({ CDC_EXTRACTION_INTERVAL_SECONDS: '1' });
  expect((await runCli(['simulate', '--changes', '30'], pipeline.env)).code).toBe(0);
});
afterAll(async () => {
  await pipeline.drop();
});
beforeEach(async () => {
  server = await startReceiver();
});
afterEach(async () => {
  vi.useRealTimers();
  await server.close();
});

const events = () => server.requests.map(({ body }) => JSON.parse(body) as Event);
const told = () => events().map(({ eventType, job }) => `${eventType} ${job.name}`);
const env = () => ({ ...pipeline.env, OPENLINEAGE_URL: new URL(server.url).origin });

describe('OpenLineage (tidemark.lineage_datasets, tidemark.lineage_event)', () => {
  test('is told by extract and load, a run for each table within one for the part, and every event is valid by the public schemas', async () => {
    const key = path.join(pipeline.folder, 'key');
    await writeFile(key, 'let-me-in\n', { mode: 0o600 });
    const given = { ...env(), OPENLINEAGE_API_KEY_FILE: key, OPENLINEAGE_NAMESPACE: 'shop' };
    for (const command of ['extract', 'load']) expect(await runCli([command], given)).toMatchObject({ code: 0 });
    const tables = ['customers', 'orders', 'products'];
    for (const part of ['extract', 'load']) {
      const expected = [part, ...tables.map((table) => `${part}.${table}`)];
      for (const state of ['START', 'COMPLETE'])
        expect(
          told()
            .filter((each) => each.startsWith(`${state} ${part}`))
            .sort(),
        ).toEqual(expected.map((job) => `${state} ${job}`).sort());
    }
    expect(events()).toHaveLength(16);
    expect(events().flatMap(faultsOf)).toEqual([]);
    for (const { headers, path: asked } of server.requests)
      expect([asked, headers.authorization, headers['content-type']]).toEqual([
        '/api/v1/lineage',
        'Bearer let-me-in',
        'application/json',
      ]);
    const [run] = await pipeline.warehouse<{ run_id: string }[]>`
      select run_id from pipeline_metadata where pipeline_name = 'extract' order by id desc limit 1`;
    const orders = events().filter(({ job }) => job.name === 'extract.orders');
    expect(new Set(orders.map(({ run: { runId } }) => runId)).size).toBe(1);
    for (const { run: own, job } of orders) {
      expect(own.facets.parent).toMatchObject({ run: { runId: run?.run_id }, job: { namespace: 'shop' } });
      expect(job).toMatchObject({ namespace: 'shop', facets: { jobType: { processingType: 'BATCH' } } });
    }
  });

  test('is told by name and column what is made of what, and of no value', async () => {
    const { source, warehouse, cdc_log_dir } = pipeline.settings;
    for (const command of ['extract', 'load']) await runCli([command], env());
    const [extracted, loaded] = ['extract', 'load'].map((part) =>
      events().findLast(({ job, eventType }) => job.name === `${part}.orders` && eventType === 'COMPLETE'),
    );
    const [table, log, history] = [extracted?.inputs?.[0], loaded?.inputs?.[0], loaded?.outputs?.[0]];
    const log_name = path.join(cdc_log_dir, 'orders');
    expect([table, log, history].map((each) => [each?.namespace, each?.name])).toEqual([
      [`postgres://${source.host}:${String(source.port)}`, `${source.database}.public.orders`],
      ['file', log_name],
      [`postgres://${warehouse.host}:${String(warehouse.port)}`, `${warehouse.database}.public.dim_orders_history`],
    ]);
    expect(extracted?.outputs?.[0]).toMatchObject({ namespace: log?.namespace, name: log?.name });
    expect(table?.facets.schema.fields.map(({ name }) => name)).toEqual(
      log?.facets.schema.fields.map(({ name }) => name),
    );
    expect(history?.facets.schema.fields).toContainEqual({ name: 'valid_from', type: 'timestamp without time zone' });
    const madeOf = (dataset: Dataset | undefined, column: string) =>
      dataset?.facets.columnLineage.fields[column]?.inputFields.map(({ name, field }) => [name, field]);
    expect(madeOf(extracted?.outputs?.[0], 'order_status')).toEqual([[table?.name, 'order_status']]);
    expect(madeOf(history, 'order_key')).toEqual([[log_name, 'id']]);
    expect(madeOf(history, 'valid_from')).toEqual([
      [log_name, 'last_updated'],
      [log_name, 'created_at'],
    ]);
    expect(madeOf(history, 'valid_to')).toEqual([[log_name, 'last_updated']]);
    expect(madeOf(history, 'surrogate_key')).toBeUndefined();
    const [row] = await pipeline.source<{ email: string }[]>`select email from customers limit 1`;
    expect(row?.email).toMatch(/@/);
    for (const { body } of server.requests) expect(body).not.toContain(row?.email);
  });

  test('is told which table failed, by its code and not by the words of the error, and that the others are done', async () => {
    await runCli(['extract', '--full'], pipeline.env);
    const [file] = readdirSync(path.join(pipeline.settings.cdc_log_dir, 'orders')).filter((name) =>
      name.endsWith('.json'),
    );
    const bad = path.join(pipeline.settings.cdc_log_dir, 'orders', file ?? '');
    const whole = readFileSync(bad, 'utf8');
    await writeFile(bad, whole.replace(/"changes"/, '"chances"'));
    expect((await runCli(['load'], env())).code).toBe(1);
    await writeFile(bad, whole);
    expect(
      told()
        .filter((each) => !each.startsWith('START'))
        .sort(),
    ).toEqual(['COMPLETE load.customers', 'COMPLETE load.products', 'FAIL load', 'FAIL load.orders']);
    expect(events().flatMap(faultsOf)).toEqual([]);
    const failed = events().find(({ eventType, job }) => eventType === 'FAIL' && job.name === 'load.orders');
    expect(failed?.run.facets.errorMessage?.message).toMatch(
      /^load\.orders failed: the log of run [0-9a-f-]{36} says why$/,
    );
  });

  test('is told that a service goes on, and that a table failed once, however often it is tried', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    const part = {
      name: 'load',
      id: '00000000-0000-4000-8000-000000000000',
      isWatching: true,
      reads: 'load_datasets',
    } as const;
    const lineage = new OpenLineage(pipeline.settings, part, new URL(server.url));
    lineage.start();
    const loaded = (changes: number) => [{ table: 'orders', changes, inserted_versions: changes }];
    const failing = () => {
      const failures = [{ table: 'orders', error: new TidemarkError('no room for "secret"', { code: 'TM022' }) }];
      const error = withOutcome(new Error('one failed'), { result: [], failures });
      lineage.noteRound([], error, new Date());
    };
    lineage.noteRound(loaded(2), undefined, new Date());
    lineage.noteRound(loaded(3), undefined, new Date());
    vi.advanceTimersByTime(61_000);
    lineage.noteRound(loaded(0), undefined, new Date());
    lineage.noteRound(loaded(4), undefined, new Date());
    failing();
    failing();
    lineage.noteRound(loaded(1), undefined, new Date());
    await lineage.end('COMPLETE');
    const states = ['START', 'RUNNING', 'FAIL', 'START', 'COMPLETE'].map((state) => `${state} load.orders`);
    expect(told()).toEqual(['START load', ...states, 'COMPLETE load']);
    const rows = events().map(({ outputs }) => outputs?.[0]?.outputFacets?.outputStatistics?.rowCount);
    expect(rows).toEqual([undefined, undefined, 9, 9, undefined, 1, undefined]);
    expect(JSON.stringify(events())).toContain('load.orders failed (TM022)');
    expect(JSON.stringify(events())).not.toContain('secret');
    expect(
      new Set(
        events()
          .slice(1, 4)
          .map(({ run }) => run.runId),
      ).size,
    ).toBe(1);
    expect(events().at(4)?.run.runId).not.toBe(events().at(1)?.run.runId);
    expect(events().flatMap(faultsOf)).toEqual([]);
    expect(events().map(({ job }) => job.facets.jobType?.processingType)).toEqual(events().map(() => 'STREAMING'));
  });

  test('is told of a reader of the log which tables it brought changes of, and that it makes both log and history', async () => {
    const part = {
      name: 'stream',
      id: '00000000-0000-4000-8000-000000000000',
      isWatching: true,
      reads: 'stream_datasets',
    } as const;
    const lineage = new OpenLineage(pipeline.settings, part, new URL(server.url));
    lineage.note({ tables: ['orders'], changes: 5 });
    await lineage.end('COMPLETE');
    const [start] = events();
    const names = (datasets: readonly Dataset[] = []) => datasets.map(({ name }) => name.replace(/^.*[./]/, ''));
    expect([start?.job.name, names(start?.inputs), names(start?.outputs)]).toEqual([
      'stream.orders',
      ['orders'],
      ['orders', 'dim_orders_history'],
    ]);
    expect(events().flatMap(faultsOf)).toEqual([]);
  });

  test.each<[string, () => unknown, RegExp | undefined]>([
    ['refuses', () => server.answer(500), /it answers 500/],
    [
      'leads elsewhere',
      () => server.answer((_, response) => void response.writeHead(302, { location: '/' }).end()),
      /redirect/,
    ],
    ['is silent', () => server.answer(() => undefined), undefined],
    ['is not there', () => server.close(), /ECONNREFUSED/],
  ])('fails nothing where its server %s, and at most once is it said', async (_, breakIt, said) => {
    const given = env();
    await Promise.resolve(breakIt());
    const { code, stderr } = await runCli(['load'], given);
    expect(code, stderr).toBe(0);
    const warnings = stderr.split('\n').filter((line) => line.includes('OpenLineage'));
    expect(warnings.length).toBeLessThanOrEqual(1);
    if (said !== undefined) expect(warnings).toEqual([expect.stringMatching(said)]);
    if (server.requests.length > 0) expect(server.requests).toHaveLength(1);
  });

  test('is told the end of a service that is interrupted', async () => {
    const service = startCli(['extract', '--watch'], env());
    await until(() => Promise.resolve(told().filter((each) => each.startsWith('START')).length === 4));
    service.kill('SIGTERM');
    expect((await service.ended).code).toBe(0);
    expect(told().filter((each) => each.startsWith('COMPLETE'))).toHaveLength(4);
  });

  test.each([
    [{ OPENLINEAGE_URL: 'ftp://somewhere' }, /OPENLINEAGE_URL, accepted is an http or https address/],
    [{ OPENLINEAGE_URL: 'https://me:pass-word@somewhere' }, /without a password/],
    [
      { OPENLINEAGE_URL: 'http://localhost:1', OPENLINEAGE_API_KEY_FILE: '/nowhere' },
      /OPENLINEAGE_API_KEY_FILE names a file/,
    ],
  ])('wants settings that fit: %o', async (wrong, said) => {
    const { code, stderr } = await runCli(['extract'], { ...pipeline.env, ...wrong });
    expect([code, stderr]).toEqual([2, expect.stringMatching(said)]);
    expect(stderr).not.toContain('pass-word');
  });
});
