import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { chromium, type Page } from 'playwright-core';
import { PROJECT_ROOT, loadSettings } from '../../runner/base/settings.js';
import { withDatabase } from '../../runner/base/database.js';
import { serveConsole } from '../../runner/console/server.js';
import { CHROMIUM } from './browser.js';
import { freePort } from './servers.js';

/**
 * Makes the pictures of docs/console.md from the demo: npm run screens. In a folder that is given, also those of every page, dark, and narrow:
 * npm run screens -- /tmp/screens. Look at them before they are committed.
 */

const isAll = process.argv[2] !== undefined;
const target = path.resolve(process.argv[2] ?? path.join(PROJECT_ROOT, 'docs', 'console'));
mkdirSync(target, { recursive: true });
const folder = mkdtempSync(path.join(tmpdir(), 'tidemark-screens-'));
const env = {
  ...{ PATH: process.env.PATH ?? '', HOME: folder, ENV_FILE: '/dev/null', CONSOLE_PORT: '0' },
  ...{ DB_PORT: String(await freePort()), WAREHOUSE_DB_PORT: String(await freePort()) },
  ...{ TIDEMARK_DATA_DIR: path.join('/var/tmp', path.basename(folder)), CDC_LOG_DIR: path.join(folder, 'log') },
  ...{ LOG_DIR: path.join(folder, 'logs'), TIDEMARK_RUN_DIR: path.join(folder, 'run') },
};
const tidemark = (command: string) => {
  const cli = path.join(PROJECT_ROOT, 'dist', 'cli.js');
  const { status, stderr } = spawnSync(process.execPath, [cli, ...command.split(' ')], { env, encoding: 'utf8' });
  if (status !== 0 && status !== 3) throw new Error(`tidemark ${command}: ${stderr}`);
};
const settings = loadSettings(env, folder);

/** A day of the shop, and what goes wrong in one: an order that cannot be read, rows that are deleted. */
async function seed(): Promise<void> {
  for (const command of ['db start', 'migrate', 'demo']) tidemark(command);
  for (const round of [1, 2, 3, 4, 5])
    for (const command of [`simulate --changes 80 --seed ${String(round)}`, 'extract', 'load']) tidemark(command);
  await withDatabase(settings.source, 'screens', async (source) => {
    await source`update public.orders set order_status = 'refunded', last_updated = now() where id = 1`;
    await source`delete from public.orders where id in (2, 9)`;
    await source`alter table public.orders alter column customer_id drop not null`;
    await source`update public.orders set customer_id = null, last_updated = now() where id in (5, 6)`;
  });
  await withDatabase(settings.warehouse, 'screens', (warehouse) => warehouse`analyze`);
  const repair = 'reconcile --table orders --repair --allow-deletes';
  for (const command of ['extract', 'load', repair, 'load', 'grants --apply', 'check', 'reconcile']) tidemark(command);
}

const PAGES: Record<string, string> = {
  overview: '/',
  table: '/t/orders?as_of=2026-02-01+09:12',
  key: '/t/orders/key?k=1',
  diff: '/t/orders/diff?from=-1+hour',
  work: '/work',
  batches: '/batches?table=orders',
  schema: '/t/orders/schema',
};

/** What docs/console.md shows. */
const SHOWN = ['overview', 'table', 'key', 'diff', 'work', 'batches'];

async function shoot(page: Page, url: string, ending: string, names: readonly string[]): Promise<void> {
  for (const name of names) {
    await page.goto(`${url}${PAGES[name] ?? ''}`, { waitUntil: 'load' });
    await page.screenshot({ path: path.join(target, `${name}${ending}.png`), fullPage: ending !== '' });
  }
}

try {
  await seed();
  const server = await serveConsole(settings);
  const browser = await chromium.launch({ executablePath: CHROMIUM ?? '', args: ['--no-sandbox'] });
  const size = { width: 1280, height: 720 };
  await shoot(
    await browser.newPage({ viewport: size, colorScheme: 'light' }),
    server.url,
    '',
    isAll ? Object.keys(PAGES) : SHOWN,
  );
  const dark = isAll ? ['overview', 'key', 'diff'] : [];
  await shoot(await browser.newPage({ viewport: size, colorScheme: 'dark' }), server.url, '-dark', dark);
  const narrow = { width: 400, height: 800 };
  const every = isAll ? Object.keys(PAGES) : [];
  await shoot(await browser.newPage({ viewport: narrow, colorScheme: 'light' }), server.url, '-narrow', every);
  const [{ batch }] = await withDatabase(
    settings.warehouse,
    'screens',
    (warehouse) => warehouse<[{ batch: string }]>`
      select batch_id as batch from tidemark.batches where dimension_name = 'orders' and closed_versions > 1 order by applied_at limit 1`,
  );
  // What a console that may act shows besides.
  PAGES.act = `/t/orders/act?do=retract&batch=${batch}`;
  const acting = await serveConsole({ ...settings, console_allow_actions: 'yes' }, 'a token');
  const extraHTTPHeaders = { authorization: 'Bearer a token' };
  await shoot(await browser.newPage({ viewport: size, extraHTTPHeaders }), acting.url, '', ['act']);
  if (isAll) {
    const buttons = ['act', 'work', 'batches', 'schema'];
    await shoot(await browser.newPage({ viewport: narrow, extraHTTPHeaders }), acting.url, '-acts-narrow', buttons);
    const inDark = await browser.newPage({ viewport: size, colorScheme: 'dark', extraHTTPHeaders });
    await shoot(inDark, acting.url, '-acts-dark', buttons);
  }
  await browser.close();
  await acting.close();
  await server.close();
} finally {
  tidemark('db stop');
  for (const each of [folder, env.TIDEMARK_DATA_DIR]) rmSync(each, { recursive: true, force: true });
}
