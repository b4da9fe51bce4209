import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer as createHttpServer, request, type IncomingMessage, type ServerResponse } from 'node:http';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { connect as connectSocket, createServer, type AddressInfo } from 'node:net';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { Listening } from '../../runner/base/http.js';
import { connect } from '../../runner/base/database.js';
import { logger } from '../../runner/base/logger.js';
import { PROJECT_ROOT, type Settings } from '../../runner/base/settings.js';
import { paths } from '../../runner/console/routes.js';
import { serveConsole } from '../../runner/console/server.js';
import { writeList } from '../../runner/console/export.js';
import { doorOf } from '../../runner/console/token.js';
import { checksumOf } from '../../runner/change-log/chain.js';
import { grantRoles } from '../../runner/operate/grants.js';
import { apply, batch, change, rolledBack } from '../support/batches.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { registerDimension } from '../support/dimensions.js';
import { WITH_ROLES } from '../support/roles.js';
import { until } from '../support/wait.js';

const prefix = `look_${randomBytes(4).toString('hex')}`;
const analyst = `${prefix}_analyst`;

/** What may stand in a row, and must never be more than text. */
const HOSTILE = [
  '<script>alert(1)</script>',
  '"><img src=x onerror=alert(1)>',
  '\u202Egnp.exe',
  "'; drop table x; --",
  'a%2Fb%00?#&k=9',
];

const BATCH = 'changes_20260201_093000_000';

let pipeline: TestPipeline;
let server: Listening;
beforeAll(async () => {
  pipeline = await createPipeline({ CONSOLE_PORT: '0' });
  const { warehouse } = pipeline;
  const changes = [change(1, 'pending', '09:00'), change(1, 'confirmed', '09:10'), change(2, 'pending', '09:20')];
  const document = batch(BATCH, '09:30', changes).replace('{"batch_metadata": ', '{\n"batch_metadata": ');
  await apply(warehouse, document);
  const processed = path.join(pipeline.settings.cdc_log_dir, 'orders', 'processed');
  await mkdir(processed, { recursive: true });
  await writeFile(path.join(processed, `${BATCH}.json`), document, { mode: 0o600 });
  await registerDimension(warehouse, 'notes', 'notes', [
    { source: 'id', type: 'text', role: 'business key' },
    { source: 'note', type: 'text', role: 'tracked' },
    { source: 'changed', type: 'timestamptz', role: 'effective time' },
  ]);
  const note = (id: string, text: string | null) => ({
    ...{
      id,
      note: text,
      changed: '2026-02-01T09:00:00Z',
      operation_type: 'UPDATE',
      cdc_timestamp: '2026-02-01T09:00:00Z',
    },
  });
  const notes = [
    ...HOSTILE.map((text) => note(text, text)),
    note('large', 'x'.repeat(1_000_000)),
    note('none', null),
    note('formula', '=1+1'),
  ];
  await apply(warehouse, batch('n1', '2026-02-01T10:00:00', notes, { table: 'notes' }));
  if (!WITH_ROLES) await grantRoles(pipeline.settings, prefix, true);
  server = await serveConsole(pipeline.settings);
});
afterAll(async () => {
  await server.close();
  const { warehouse } = pipeline;
  if (!WITH_ROLES)
    for (const role of ['reader', 'owner', 'loader', 'analyst']) {
      await warehouse.unsafe(`reassign owned by ${prefix}_${role} to current_user; drop owned by ${prefix}_${role}`);
      if (role !== 'reader') await warehouse.unsafe(`drop role ${prefix}_${role}`);
    }
  await pipeline.drop();
});

interface Reply {
  readonly status: number;
  readonly body: string;
  readonly headers: IncomingMessage['headers'];
}

async function ask(
  path: string,
  options: { method?: string; host?: string; headers?: object; of?: Listening } = {},
): Promise<Reply> {
  const { method = 'GET', host, headers = {}, of = server } = options;
  const asked = request(`${of.url}${path}`, {
    method,
    headers: { ...headers, ...(host !== undefined && { host }) },
  }).end();
  const [reply] = (await once(asked, 'response')) as [IncomingMessage];
  let body = '';
  for await (const chunk of reply) body += String(chunk);
  return { status: reply.statusCode ?? 0, body, headers: reply.headers };
}

/** A console with other settings, for as long as `work` lasts. */
async function withConsole<T>(changed: Partial<Settings>, work: (of: Listening) => Promise<T>): Promise<T> {
  const of = await serveConsole({ ...pipeline.settings, ...changed });
  return work(of).finally(() => of.close());
}

/** The first page of notes, whose keys are hostile. */
const key = (text: string) => `/t/notes/key?k=${encodeURIComponent(text)}`;

describe('the server', () => {
  test('answers to this machine alone, reads alone, and lets pages load nothing from elsewhere', async () => {
    expect(await ask('/', { host: 'tidemark.example.com' })).toMatchObject({ status: 403 });
    for (const method of ['POST', 'PUT', 'DELETE'])
      expect(await ask('/', { method })).toMatchObject({ status: 405, headers: { allow: 'GET, HEAD' } });
    expect(await ask('/t/orders', { method: 'HEAD' })).toMatchObject({ status: 200, body: '' });
    const { headers, body } = await ask('/t/orders');
    expect(headers['content-security-policy']).toContain("default-src 'none'");
    expect(headers).toMatchObject({
      'cache-control': 'no-store',
      'referrer-policy': 'same-origin',
      'x-content-type-options': 'nosniff',
    });
    expect(body).not.toMatch(/https?:\/\/| style=| on\w+=|<script(?! type="module" src="\/console\.js")/);
  });

  test('says what is wrong with an address, and what next, with the status for it', async () => {
    for (const [path, status, said] of [
      ['/nothing', 404, 'there is no such page'],
      ['/t/nothing', 404, 'there is'],
      ['/t/orders/key?k=99', 404, 'no history of that key'],
      ['/t/orders/key?k=1&k=2', 400, 'order_key (integer)'],
      ["/t/orders/key?k=1'%20or%201=1", 400, 'order_key (integer)'],
      ['/t/orders?as_of=soon', 400, '2026-02-01 09:05'],
      ['/t/orders?f.nothing=1', 400, 'no column of that name'],
      ['/t/orders?f.quantity=x', 400, 'no value of its column'],
      ['/t/orders?after=x', 400, 'no value of its column'],
      ['/t/orders.csv?as_of=soon', 400, '2026-02-01 09:05'],
    ] as const) {
      const reply = await ask(path);
      expect([path, reply.status]).toEqual([path, status]);
      expect(reply.body).toContain(said);
      expect(reply.body).not.toMatch(/at .*\.js|invalid input syntax/);
    }
  });

  test('writes no key, filter or value to its log, whatever goes wrong', async () => {
    const levels = ['debug', 'info', 'warn', 'error'] as const;
    const spies = levels.map((level) => vi.spyOn(logger, level).mockImplementation(() => undefined));
    const warehouse = { ...pipeline.settings.warehouse, port: 1 };
    for (const path of ['key?k=4711', 'key?k=4711x', '?f.quantity=4711x', '?f.order_status=4711', '?as_of=4711x'])
      await ask(`/t/orders/${path}`.replace('/?', '?'));
    await withConsole({ warehouse }, (of) => ask('/t/orders/key?k=4711', { of }));
    const written = spies.flatMap(({ mock }) => mock.calls);
    for (const spy of spies) spy.mockRestore();
    expect(written.length).toBeGreaterThan(0);
    expect(JSON.stringify(written)).not.toContain('4711');
  });

  test('refuses a port that is taken, and an address that others reach without a token', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as { port: number };
    await expect(serveConsole({ ...pipeline.settings, console_port: port })).rejects.toThrow(
      'the console cannot be served at',
    );
    other.close();
    // Two consoles stand beside each other, but not in one place.
    const place = Number(new URL(server.url).port);
    await expect(serveConsole({ ...pipeline.settings, console_port: place })).rejects.toThrow('cannot be served at');
    expect(await withConsole({}, (of) => ask('/', { of }))).toMatchObject({ status: 200 });
    await expect(serveConsole({ ...pipeline.settings, console_host: '0.0.0.0' })).rejects.toThrow(
      'CONSOLE_TOKEN_FILE is not set',
    );
  });

  test('shows the overview as it was last, greyed, while the warehouse is away', async () => {
    await ask('/');
    const warehouse = { ...pipeline.settings.warehouse, port: 1 };
    const { status, body } = await withConsole({ warehouse }, (of) => ask('/', { of }));
    expect([status, body]).toEqual([
      503,
      expect.stringMatching(/The overview of \d\.\d s ago[^]*class="stale"[^]*orders/),
    ]);
  });

  test('says that the warehouse is away', async () => {
    const warehouse = { ...pipeline.settings.warehouse, port: 1 };
    const { status, body } = await withConsole({ warehouse }, (of) => ask('/t/orders', { of }));
    expect([status, body]).toEqual([503, expect.stringContaining('the warehouse database does not answer')]);
  });
});

describe('a session', () => {
  test('that ends while a page waits is said, and so is one that takes too long; the next page is served', async () => {
    const blocker = connect(pipeline.admin.warehouse, 'blocker');
    const { warehouse } = pipeline;
    await blocker.unsafe('begin; lock table public.dim_orders_history in access exclusive mode');
    const cut = ask('/t/orders');
    const [session] = await until(async () => {
      const found = await warehouse<{ pid: number }[]>`
        select pid from pg_stat_activity where application_name = 'tidemark console' and wait_event_type = 'Lock' and datname = current_database()`;
      return found.length > 0 ? found : undefined;
    });
    await warehouse`select pg_terminate_backend(${session?.pid ?? 0})`;
    expect(await cut).toMatchObject({ status: 503, body: expect.stringContaining('ended the connection') as string });
    expect(await ask('/t/orders?f.order_status=x&f.quantity=1')).toMatchObject({
      status: 504,
      body: expect.stringMatching(/narrow it: [^]*An index of the history on order_status, quantity helps/) as string,
    });
    await blocker.unsafe('rollback');
    await blocker.end();
    expect(await ask('/t/orders')).toMatchObject({ status: 200 });
  });
});

describe('the line of a file', () => {
  const line = (batchId: string) => `/t/orders/line?batch=${encodeURIComponent(batchId)}&line=2`;

  test('is shown as it stands to who is at this machine, unless nobody is to see it', async () => {
    const { body } = await ask(line(BATCH));
    expect(body).toContain('order_status&quot;:&quot;confirmed');
    expect(body).not.toContain('pending');
    expect(await withConsole({ console_show_lines: 'none' }, (of) => ask(line(BATCH), { of }))).toMatchObject({
      status: 403,
    });
  });

  test('is that of its number, also where lines before it were forgotten; of what was forgotten there is none', async () => {
    const name = 'changes_20260201_093500_000';
    const whole = batch(name, '09:35', [change(4, 'gone', '09:31'), change(5, 'kept', '09:32')]);
    const [, kept = ''] = /("id":5[^]*)\n\]/.exec(whole) ?? [];
    const text = whole
      .replace(/\n\{"id":4.*,\n/, '\n')
      .replace(
        /"checksum": *"\w+"/,
        (checksum) => `${checksum}, "content_checksum": "${checksumOf(`{${kept}`)}", "forgotten_lines": [1]`,
      )
      .replace('{"batch_metadata": ', '{\n"batch_metadata": ');
    await writeFile(path.join(pipeline.settings.cdc_log_dir, 'orders', `${name}.json`), text, { mode: 0o600 });
    expect((await ask(line(name))).body).toMatch(/Line 2 of[^]*order_status&quot;:&quot;kept[^]*sed -n 1p/);
    expect(await ask(`/t/orders/line?batch=${name}&line=1`)).toMatchObject({
      status: 404,
      body: expect.stringContaining('line 1 was forgotten') as string,
    });
    expect(await ask(`/t/orders/line?batch=${name}&line=3`)).toMatchObject({ status: 404 });
    expect(await ask(`/t/orders/line?batch=${name}&line=x`)).toMatchObject({ status: 404 });
  });

  test('is not shown to who asks through another name of this machine, as a proxy on it may', async () => {
    const console_token_file = path.join(pipeline.folder, 'proxied');
    await writeFile(console_token_file, 'a token', { mode: 0o600 });
    await withConsole({ console_host: '0.0.0.0', console_token_file }, async (listening) => {
      const of = { ...listening, url: listening.url.replace('0.0.0.0', '127.0.0.1') };
      const headers = { authorization: 'Bearer a token' };
      expect(await ask(line(BATCH), { of, headers })).toMatchObject({ status: 200 });
      expect(await ask(line(BATCH), { of, headers, host: 'tidemark.example.com' })).toMatchObject({ status: 403 });
    });
  });

  test.each(['nothing', '../orders/processed/changes_20260201_093000_000', '/etc/passwd', 'a\0b'])(
    'is of no other file: %j',
    async (name) => {
      expect(await ask(line(name))).toMatchObject({
        status: 404,
        body: expect.stringContaining('is not on this machine') as string,
      });
    },
  );
});

describe('a token', () => {
  const TOKEN = 'a token of some length';
  const withToken = async <T>(work: (of: Listening) => Promise<T>) => {
    const console_token_file = path.join(pipeline.folder, 'token');
    await writeFile(console_token_file, `${TOKEN}\n`, { mode: 0o600 });
    return withConsole({ console_token_file }, work);
  };
  const enter = (of: Listening, token: string, headers = {}) =>
    fetch(`${of.url}/login`, { method: 'POST', body: new URLSearchParams({ token }), headers, redirect: 'manual' });

  test('is asked for once, in a form or as a bearer, and opens every page', async () => {
    await withToken(async (of) => {
      expect(await ask('/t/orders', { of })).toMatchObject({
        status: 401,
        body: expect.stringContaining('wants its token') as string,
      });
      expect((await ask('/t/orders.csv', { of })).body).not.toContain('pending');
      expect((await fetch(`${of.url}/t/orders`, { headers: { authorization: `Bearer ${TOKEN}` } })).status).toBe(200);
      const reply = await enter(of, TOKEN);
      const cookie = reply.headers.get('set-cookie') ?? '';
      expect(cookie).toMatch(/; HttpOnly; SameSite=Strict; Path=\/$/);
      expect((await fetch(`${of.url}/t/orders`, { headers: { cookie } })).status).toBe(200);
      expect((await fetch(`${of.url}/t/orders`, { headers: { cookie: 'tidemark_console_0=guess' } })).status).toBe(401);
    });
  });

  test('is not taken from a page elsewhere, nor tried without end', async () => {
    await withToken(async (of) => {
      expect((await enter(of, TOKEN, { 'sec-fetch-site': 'cross-site' })).status).toBe(401);
      expect((await enter(of, TOKEN, { origin: 'http://elsewhere.example' })).status).toBe(401);
      for (let tries = 0; tries < 10; tries += 1) expect((await enter(of, 'guess')).status).toBe(401);
      expect((await enter(of, TOKEN)).status).toBe(401);
    });
  });

  test('is not guessed as a bearer either; who is inside stays so', async () => {
    await withToken(async (of) => {
      const bearer = async (token: string) =>
        (await ask('/icon', { of, headers: { authorization: `Bearer ${token}` } })).status;
      expect(await bearer(TOKEN)).toBe(404);
      for (let tries = 0; tries < 10; tries += 1) expect(await bearer('guess')).toBe(401);
      expect((await enter(of, TOKEN)).status).toBe(401);
      expect(await bearer(TOKEN)).toBe(404);
    });
  });

  test('of one console is not in the way of another on this machine', () => {
    const cookies = [1, 2].map((console_port) =>
      doorOf({ ...pipeline.settings, console_port }, TOKEN).cookieFor?.(TOKEN),
    );
    const [one, other] = cookies.map((cookie) => cookie?.split('=')[0]);
    expect([one, one === other]).toEqual(['tidemark_console_1', false]);
  });
});

describe('values', () => {
  test.each(HOSTILE)('are text, whatever they are: %s', async (text) => {
    for (const path of ['/t/notes', key(text), `/t/notes?f.note=${encodeURIComponent(text)}`]) {
      const { status, body } = await ask(path);
      expect(status).toBe(200);
      expect(body.replaceAll(/ value="[^"]*"/g, '')).not.toMatch(/<script>alert|<img src=x|\u202E|&#8238;/);
    }
    const { body } = await ask(`/t/notes/key.json?k=${encodeURIComponent(text)}`);
    expect((JSON.parse(body) as { rows: { note: string }[] }).rows[0]?.note).toBe(text);
  });

  test('are cut where they are long, and told from none', async () => {
    const { body } = await ask('/t/notes');
    expect(body.length).toBeLessThan(100_000);
    expect(body).toContain('999,880 more');
    expect(body).toContain('<span class="null">null</span>');
  });
});

describe('exports', () => {
  test('have what the page lists, whole, and no formula for a spreadsheet', async () => {
    const { body, headers } = await ask('/t/notes.csv?f.id=formula');
    expect(headers['content-type']).toBe('text/csv; charset=utf-8');
    expect(body).toBe("id,note,valid_from,valid_to\r\nformula,'=1+1,2026-02-01 09:00:00+00,\r\n");
    const { rows } = JSON.parse((await ask('/t/orders.json?as_of=2026-02-01+09:05')).body) as { rows: object[] };
    expect(rows).toMatchObject([{ order_key: '1', order_status: 'pending', valid_to: '2026-02-01 09:10:00+00' }]);
    expect((await ask('/index.csv')).body).toMatch(/^dimension_name,.*\r\n/);
  });

  test('end where the session ends, and say so, and the next is whole', async () => {
    const { warehouse } = pipeline;
    // More than fits between a server and a client that does not read.
    await warehouse`
      insert into public.dim_orders_history (order_key, customer_id, product_id, quantity, unit_price, total_amount, order_status, order_date,
        valid_from, cdc_operation, cdc_timestamp, batch_id, captured_at, change_line)
      select k, 1, 1, 1, 1, 1, repeat('x', 50), '2026-02-01', '2026-02-01', 'INSERT', '2026-02-01', ${BATCH}, '2026-02-01', k
      from generate_series(1001, 80000) as k`;
    const asked = request(`${server.url}/t/orders.csv`).end();
    const [reply] = (await once(asked, 'response')) as [IncomingMessage];
    await warehouse`
      select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tidemark console' and datname = current_database()`;
    let text = '';
    for await (const chunk of reply) text += String(chunk);
    const lines = text.trimEnd().split('\r\n');
    expect(lines.at(-1)).toMatch(/^# incomplete: the warehouse database ended the connection/);
    expect(lines.length).toBeLessThan(79_000);
    await warehouse`delete from public.dim_orders_history where order_key > 1000`;
    expect((await ask('/t/orders.csv')).body).not.toContain('incomplete');
  });

  test('are left to nobody who takes nothing of them, for others to be served', async () => {
    const listing = {
      columns: ['x'],
      read: () => Promise.resolve({ rows: Array(1000).fill(['x'.repeat(1000)]) as string[][], next: [] }),
    };
    const endless = createHttpServer();
    const ended = new Promise<void>((resolve, reject) => {
      endless.once('request', (_, response: ServerResponse) => {
        writeList(response, 'csv', listing, Infinity, {}, String, 50).then(resolve, reject);
      });
    });
    await once(endless.listen(0, '127.0.0.1'), 'listening');
    const { port } = endless.address() as AddressInfo;
    const stalled = connectSocket(port, '127.0.0.1').pause();
    stalled.write('GET / HTTP/1.1\r\nhost: localhost\r\n\r\n');
    await ended;
    stalled.destroy();
    endless.close();
  });

  test('end at CONSOLE_EXPORT_ROWS, and say so', async () => {
    const { body } = await withConsole({ console_export_rows: 1 }, (of) => ask('/t/orders.json', { of }));
    expect(JSON.parse(body)).toMatchObject({
      rows: [{ order_key: '1' }],
      incomplete: 'it ends at 1 rows (CONSOLE_EXPORT_ROWS)',
    });
  });
});

describe.skipIf(WITH_ROLES)('who reads', () => {
  test('is the analyst where there is one, and every page can be read as it', async () => {
    for (const path of paths('orders')) {
      const { status, body } = await ask(`${path}?table=orders&k=1&batch=${BATCH}&line=2`);
      expect([path, status < 400]).toEqual([path, true]);
      if (status === 200) expect(body).toContain(`as ${analyst} `);
    }
  });

  test('is shown nothing of a masked column: no value, no filter, no line, no export', async () => {
    const { warehouse, settings } = pipeline;
    await warehouse`select tidemark.mask_column('notes', 'note')`;
    await grantRoles(settings, prefix, true);
    const asAnalyst = (statement: string) =>
      rolledBack(warehouse, (transaction) => transaction.unsafe(`set local role ${analyst}; ${statement}`));
    for (const statement of [
      'select * from public.dim_notes_history',
      'select tracked_values from tidemark.versions',
      'select tracked_values from tidemark.neighbours',
      'select change from tidemark.absorbed_changes',
      'select reason from tidemark.rejected_changes',
      'select * from public.dim_notes_history_as_of(now())',
    ])
      await expect(asAnalyst(statement)).rejects.toMatchObject({ code: '42501' });
    const check = await readFile(path.join(PROJECT_ROOT, 'sql', 'checks', 'scd2', 'neighbours_differ.sql'), 'utf8');
    expect([...(await asAnalyst(check))].flat()).toEqual([]);
    const { body } = await ask('/t/notes');
    expect(body).toContain('•••');
    expect(body).not.toContain('xxxx');
    expect((await ask('/t/notes/key?k=large')).body).not.toContain('xxxx');
    expect((await ask('/t/notes/diff?from=2026-02-01')).body).not.toContain('xxxx');
    expect((await ask('/t/notes.csv')).body).toMatch(/^id,valid_from,valid_to\r\n/);
    expect(await ask('/t/notes?f.note=x')).toMatchObject({ status: 400 });
    expect(await ask('/t/notes/line?batch=n1&line=1')).toMatchObject({ status: 403 });
    expect(await ask('/t/notes?known=2026-02-01')).toMatchObject({ status: 403 });
    for (const path of paths('notes').filter((each) => !/find|key|line/.test(each)))
      expect([path, (await ask(path)).status]).toEqual([path, 200]);
    await warehouse`select tidemark.mask_column('notes', 'note', false)`;
    await grantRoles(settings, prefix, true);
    expect((await ask('/t/notes')).body).toContain('xxxx');
    await expect(warehouse`select tidemark.mask_column('notes', 'id')`).rejects.toMatchObject({ code: '0A000' });
    await expect(warehouse`select tidemark.mask_column('notes', 'nothing')`).rejects.toMatchObject({ code: '42703' });
  });

  test('is said where it may do more than read', async () => {
    await pipeline.warehouse.unsafe(`revoke select on tidemark.batches from ${analyst}`);
    const { body } = await ask('/t/orders/key?k=1');
    await pipeline.warehouse.unsafe(`grant select on tidemark.batches to ${analyst}`);
    expect(body).toContain('who may do more than read');
  });

  test('is not shown a table whose key it may not read', async () => {
    const { warehouse } = pipeline;
    await warehouse.unsafe(
      `revoke select on public.dim_notes_history from ${analyst}; grant select (note, valid_from, valid_to, is_current) on public.dim_notes_history to ${analyst}`,
    );
    const { status, body } = await ask('/t/notes');
    await warehouse.unsafe(`grant select on public.dim_notes_history to ${analyst}`);
    expect([status, body]).toEqual([403, expect.stringContaining('may not read the key of notes')]);
  });
});

describe('the second clock', () => {
  const clock = async () => {
    const [row] = await pipeline.warehouse<[{ at: string }]>`select clock_timestamp()::text as at`;
    return row.at.replace('+00', '');
  };
  const at = (path: string, moment: string) => ask(`${path}known=${encodeURIComponent(moment)}`);

  test('shows a table and a key as they were known at a moment, in pages, lists and the SQL, and says so', async () => {
    const before = await clock();
    const late = batch('changes_20260201_094500_000', '09:45', [change(1, 'late', '09:05'), change(7, 'x', '09:00')]);
    await apply(pipeline.warehouse, late);
    const rows = await at('/t/orders.csv?as_of=2026-02-01+09:25&', before);
    expect(rows.body.split('\r\n').map((line) => line.slice(0, 3))).toEqual(['ord', '1,1', '2,1', '']);
    const page = await at('/t/orders?as_of=2026-02-01+09:25&', before);
    expect(page.body).toMatch(/as of <b>[^]*2026-02-01 09:25:00[^]*as it was known at <b>[^]*as it is known now/);
    expect(page.body).toMatch(/Show SQL[^]*as_known_page\([^]*&#39;2026-02-01 09:25/);
    expect(page.body).toMatch(/\/t\/orders\/key\?k=1&amp;as_of=[^"]*&amp;known=/);
    expect((await at('/t/orders/key?k=7&', before)).status).toBe(404);
    expect((await at('/t/orders?', '2026-01-01')).body).toContain('Nothing was known of it then');
    const { rows: versions } = JSON.parse((await at('/t/orders/key.json?k=1&', before)).body) as { rows: object[] };
    expect(versions).toMatchObject([{ order_status: 'pending' }, { order_status: 'confirmed', valid_to: null }]);
    expect((await ask('/t/orders/key?k=1&as_of=2026-02-01')).body).toContain('known=2026-02-01');
    expect((await ask('/t/orders/key?k=7')).status).toBe(200);
  });

  test('cannot show what was pruned, and says since when it can', async () => {
    const { warehouse } = pipeline;
    await warehouse`update tidemark.dimensions set pruned_known_at = '2026-03-01' where dimension_name = 'orders'`;
    for (const path of ['/t/orders?', '/t/orders.csv?', '/t/orders/key?k=1&'])
      expect(await at(path, '2026-02-28')).toMatchObject({
        status: 410,
        body: expect.stringContaining('ask for 2026-03-01 00:00:00+00 or later') as string,
      });
    await warehouse`update tidemark.dimensions set pruned_known_at = null`;
  });
});
