import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { connect } from '../../runner/base/database.js';
import type { Listening } from '../../runner/base/http.js';
import { paths } from '../../runner/console/routes.js';
import { serveConsole } from '../../runner/console/server.js';
import { reading } from '../../runner/console/session.js';
import { grantRoles } from '../../runner/operate/grants.js';
import { apply, batch, change } from '../support/batches.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { WITH_ROLES } from '../support/roles.js';
import { until } from '../support/wait.js';

/** What may be done by hand in the console (tidemark.take_action), as tidemark.acting_role: who may, what it says before, and everything that keeps it from being done. */

const prefix = `act_${randomBytes(4).toString('hex')}`;
const TOKENS = { ann: 'a token of some length', bob: 'another token' };
const as = (name: keyof typeof TOKENS) => ({ authorization: `Bearer ${TOKENS[name]}` });

let pipeline: TestPipeline;
let server: Listening;
beforeAll(async () => {
  pipeline = await createPipeline({ CONSOLE_PORT: '0' });
  const console_token_file = path.join(pipeline.folder, 'tokens');
  await writeFile(console_token_file, `ann: ${TOKENS.ann}\nbob: ${TOKENS.bob}\n`, { mode: 0o600 });
  if (!WITH_ROLES) await grantRoles(pipeline.settings, prefix, true);
  server = await serveConsole({ ...pipeline.settings, console_token_file, console_allow_actions: 'yes' });
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

/** Two orders, the second of which cannot be read, by a batch with a name of its own: what was done to one is no matter to the next. */
let [place, b] = [0, ''];
beforeEach(async () => {
  place += 1;
  b = `b${String(place)}`;
  const at = `2026-02-01T${String(place + 8).padStart(2, '0')}:00:00`;
  await apply(
    pipeline.warehouse,
    batch(b, at, [change(10 * place, 'pending', at), change(10 * place + 1, 'secret', at, { quantity: 'many' })], {
      sequence: place,
    }),
  );
});

const ask = async (address: string, who: keyof typeof TOKENS = 'ann') => {
  const reply = await fetch(server.url + address, { headers: as(who) });
  return { status: reply.status, body: await reply.text() };
};

/** What the form of a page would send, with a reason. */
async function formOf(address: string): Promise<Record<string, string>> {
  const { body } = await ask(address);
  const fields = [...body.matchAll(/type="hidden" name="(\w+)"\s+value="([^"]*)"/g)];
  const plain = (text = ''): string => text.replaceAll('&quot;', '"').replaceAll('&#39;', "'").replaceAll('&amp;', '&');
  const given = fields.map(([, name = '', text]) => [name, plain(text)] as const);
  return Object.fromEntries([...given, ['reason', 'it was a test']]);
}

async function send(fields: Record<string, string>, headers: Record<string, string> = as('ann')) {
  const [method, body] = ['POST', new URLSearchParams(fields)];
  const reply = await fetch(`${server.url}/t/orders/act`, { method, body, headers, redirect: 'manual' });
  return { status: reply.status, to: reply.headers.get('location'), body: await reply.text() };
}

const isOut = async () =>
  (await pipeline.warehouse`select from tidemark.batches where batch_id = ${b} and retracted_at is not null`).length >
  0;
const noted = async () => [
  ...(await pipeline.warehouse`
    select action, acted_by, reason, batch_id, changes::integer as changes from tidemark.actions order by action_id desc limit 1`),
];
const said = (text: string) => expect.stringContaining(text) as string;

describe('a console that is not told to act', () => {
  test('has no form, no page of actions, and takes no post; what it reads with cannot write', async () => {
    const plain = await serveConsole(pipeline.settings);
    const statusOf = async (method: string, address: string) =>
      (await fetch(plain.url + address, { method, redirect: 'manual' })).status;
    for (const address of [...paths('orders'), '/t/orders/act', '/login'])
      for (const method of ['POST', 'PUT', 'PATCH', 'DELETE'])
        expect([method, address, await statusOf(method, address)]).toEqual([method, address, 405]);
    expect(await statusOf('GET', `/t/orders/act?do=retract&batch=${b}`)).toBe(404);
    for (const address of ['/work', '/batches', '/t/orders/schema'])
      expect(await fetch(plain.url + address).then((reply) => reply.text())).not.toMatch(/class="act"|method="post"/);
    await plain.close();
    for (const statement of ['create temp table x ()', "select tidemark.pause_dimension('orders', true)"])
      await expect(reading(pipeline.settings, ({ warehouse }) => warehouse.unsafe(statement))).rejects.toMatchObject({
        code: WITH_ROLES ? '25006' : (expect.stringMatching(/25006|42501/) as string),
      });
  });

  test('begins to act for nobody: it is refused without a token', async () => {
    const settings = { ...pipeline.settings, console_allow_actions: 'yes' as const };
    await expect(serveConsole(settings)).rejects.toThrow('the console is to act, and CONSOLE_TOKEN_FILE is not set');
    const made = await serveConsole(settings, 'made up');
    expect((await fetch(`${made.url}/work`)).status).toBe(401);
    expect((await fetch(`${made.url}/work`, { headers: { authorization: 'Bearer made up' } })).status).toBe(200);
    await made.close();
  });
});

describe('an action', () => {
  test('says in rows what would be done, and does nothing until the form is sent; then it is noted with who and why', async () => {
    const address = `/t/orders/act?do=retract&batch=${b}`;
    expect((await ask('/batches')).body).toContain(`href="/t/orders/act?do=retract&amp;batch=${b}"`);
    const { status, body } = await ask(address);
    expect([status, body]).toEqual([200, said('2 changes taken out of history: 1 versions removed')]);
    expect(body).toContain(`order_key&quot; : ${String(10 * place)}`);
    expect(body).toContain('as done by ann');
    if (!WITH_ROLES) expect(body).toContain(`It is done as ${prefix}_loader`);
    expect(body).not.toContain('who may do more than this');
    // What is shown of the SQL takes nothing out either.
    expect(body).toMatch(/\nbegin;.*\nselect \* from tidemark\.take_action\([^]*\nrollback;<\/pre>/);
    expect((await ask(address.replace('act?', 'act.csv?'))).body).toMatch(/^effect,business_key,[^]*\r\nretracted,/);
    expect(await isOut()).toBe(false);
    const { to } = await send(await formOf(address));
    expect(await isOut()).toBe(true);
    expect(await noted()).toEqual([
      { action: 'retract', acted_by: 'ann', reason: 'it was a test', batch_id: b, changes: 2 },
    ]);
    expect((await ask(to ?? '')).body).toMatch(/role="status">✓ retract is done: [^]*2 changes, by ann: it was a test/);
    expect((await ask('/work')).body).toContain(`href="/t/orders/act?do=restore&amp;batch=${b}"`);
    expect(await send(await formOf(`/t/orders/act?do=restore&batch=${b}`))).toMatchObject({ status: 303 });
    expect(await isOut()).toBe(false);
  });

  test('tries what was rejected again, by cause, or dismisses it; and pauses a table', async () => {
    const { warehouse } = pipeline;
    const work = (await ask('/work?table=orders')).body;
    const dismiss = /href="(\/t\/orders\/act\?do=dismiss[^"]*)"/.exec(work)?.[1]?.replaceAll('&amp;', '&') ?? '';
    expect((await ask('/t/orders/act?do=retry')).body).toContain(
      `0 of ${String(place)} rejected changes applied, ${String(place)} rejected again`,
    );
    await warehouse`update tidemark.rejected_changes set change = replace(change::text, 'many', '3')::json where batch_id = ${b}`;
    const retry = await formOf('/t/orders/act?do=retry');
    expect(retry.outcome).toContain(`1 of ${String(place)} rejected changes applied`);
    expect(await send(retry)).toMatchObject({ status: 303 });
    expect(await noted()).toMatchObject([{ action: 'retry', acted_by: 'ann', changes: 1 }]);
    const waiting = await formOf(dismiss);
    expect(waiting.outcome).toContain(`${String(place - 1)} rejected changes dismissed`);
    expect(await send(waiting)).toMatchObject({ status: 303 });
    expect(await warehouse`select dismissed_by from tidemark.rejected_changes limit 1`).toMatchObject([
      { dismissed_by: 'ann' },
    ]);
    expect(await ask(dismiss)).toMatchObject({ status: 409, body: said('no such rejected change waits') });
    expect((await ask('/t/orders/schema')).body).toContain('act?do=pause');
    expect(await send(await formOf('/t/orders/act?do=pause'))).toMatchObject({ status: 303 });
    expect(await ask('/t/orders/act?do=pause')).toMatchObject({ status: 409, body: said('it is paused already') });
    expect((await ask('/t/orders/schema')).body).toContain('act?do=resume');
    expect(await send(await formOf('/t/orders/act?do=resume'))).toMatchObject({ status: 303 });
  });

  test('is not done from elsewhere, by another session, without a reason or a token, or where there is nothing to do', async () => {
    const fields = await formOf(`/t/orders/act?do=retract&batch=${b}`);
    const begin = 'nothing was done';
    for (const [changed, headers, status, what] of [
      [{}, { ...as('ann'), 'sec-fetch-site': 'cross-site' }, 403, begin],
      [{}, { ...as('ann'), origin: 'http://elsewhere.example' }, 403, begin],
      [{ form: 'guess' }, as('ann'), 403, begin],
      [{}, as('bob'), 403, begin],
      [{ reason: 'x'.repeat(9000) }, as('ann'), 403, begin],
      [{ reason: ' ' }, as('ann'), 400, 'it needs a reason'],
      [{}, {}, 401, 'wants its token'],
      [{}, { cookie: 'tidemark_console_0=ended' }, 401, 'wants its token'],
      [{ do: 'drop' }, as('ann'), 404, 'there is no such action'],
      [{ batch: 'nothing' }, as('ann'), 404, 'has no batch of that name'],
      [{ do: 'restore' }, as('ann'), 409, 'in history already'],
      [{ outcome: 'nothing much' }, as('ann'), 409, 'by now it would come to this: 2 changes taken out'],
    ] as const) {
      const reply = await send({ ...fields, ...changed }, headers);
      expect([changed, reply.status, reply.body]).toEqual([changed, status, said(what)]);
    }
    expect(await ask('/t/nothing/act?do=retry')).toMatchObject({ status: 404 });
    expect(await isOut()).toBe(false);
  });

  test('that is sent twice at once is done once, and the other time it is said', async () => {
    const fields = await formOf(`/t/orders/act?do=retract&batch=${b}`);
    const replies = await Promise.all([send(fields), send(fields)]);
    expect(replies.map(({ status }) => status).sort()).toEqual([303, 409]);
    expect(replies.find(({ status }) => status === 409)?.body).toContain('the batch is out of history already');
  });

  test('whose session ends in the middle says so, and nothing of it is done', async () => {
    const fields = await formOf(`/t/orders/act?do=retract&batch=${b}`);
    const blocker = connect(pipeline.admin.warehouse, 'blocker');
    await blocker.unsafe('begin; lock table public.dim_orders_history in access exclusive mode');
    const cut = send(fields);
    const session = await until(
      async () =>
        (
          await pipeline.warehouse<{ pid: number }[]>`
            select pid from pg_stat_activity
            where application_name = 'tidemark console actions' and wait_event_type = 'Lock' and datname = current_database()`
        )[0],
    );
    await blocker`select pg_terminate_backend(${session.pid})`;
    expect(await cut).toMatchObject({ status: 503, body: said('an action is done whole or not at all') });
    await blocker.unsafe('rollback');
    await blocker.end();
    expect(await isOut()).toBe(false);
  });

  test.skipIf(WITH_ROLES)(
    'shows no value to who may not read all of them, and says whose rights it has where it has too many',
    async () => {
      const { warehouse, settings } = pipeline;
      const address = `/t/orders/act?do=retract&batch=${b}`;
      expect((await ask(address)).body).toMatch(/secret|pending/);
      await warehouse`select tidemark.mask_column('orders', 'order_status')`;
      await grantRoles(settings, prefix, true);
      for (const shown of [address, address.replace('act?', 'act.json?'), '/t/orders/act?do=retry'])
        expect((await ask(shown)).body).not.toMatch(/secret|pending/);
      await warehouse`select tidemark.mask_column('orders', 'order_status', false)`;
      await grantRoles(settings, prefix, true);
      const call = 'tidemark.take_action(text, text, text, text, text, text, text)';
      await warehouse.unsafe(`revoke execute on function ${call} from ${prefix}_loader`);
      expect((await ask(address)).body).toContain('who may do more than this');
      await warehouse.unsafe(`grant execute on function ${call} to ${prefix}_loader`);
    },
  );
});
