import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { chromium, type Browser, type BrowserContextOptions, type Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Listening } from '../../runner/base/http.js';
import { serveConsole } from '../../runner/console/server.js';
import { apply, batch, change, deletion } from '../support/batches.js';
import { CHROMIUM } from '../support/browser.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';

/** The console in a real browser: with a script and without, by keys alone, light and dark, wide and narrow. */

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
if (CHROMIUM === undefined)
  process.stderr.write(
    '\nSKIPPED: there is no chromium, so the console is tried in no browser. On Debian: apt install chromium\n\n',
  );

let pipeline: TestPipeline;
let server: Listening;
let browser: Browser;
/** Where most is looked at: a page takes longer to begin than to show. */
let page: Page;
const faults: string[] = [];
beforeAll(async () => {
  if (CHROMIUM === undefined) return;
  pipeline = await createPipeline({ CONSOLE_PORT: '0' });
  const { warehouse } = pipeline;
  const life = [
    change(1, 'pending', '09:00'),
    change(1, 'confirmed', '09:10'),
    deletion(1, '09:20'),
    change(1, 'refunded', '09:40'),
  ];
  await apply(
    warehouse,
    batch('b1', '10:00', [
      ...life,
      change(2, 'pending', '09:15'),
      change(3, 'x'.repeat(3000), '09:30', { quantity: 'many' }),
    ]),
  );
  await apply(
    warehouse,
    batch('b2', '11:00', [change(1, 'refunded', '10:30'), change(2, 'delivered', '10:40')], { sequence: 2 }),
  );
  server = await serveConsole(pipeline.settings);
  browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: ['--no-sandbox', '--host-resolver-rules=MAP tidemark.test 127.0.0.1'],
  });
  page = await newPage();
}, 120_000);
afterAll(async () => {
  if (CHROMIUM === undefined) return;
  await browser.close();
  await server.close();
  await pipeline.drop();
});

const WIDE = { width: 1280, height: 800 };

/** A page in a browser of its own; what it complains about is a fault. */
async function newPage(options: BrowserContextOptions = {}): Promise<Page> {
  const made = await browser.newPage({ viewport: WIDE, ...options });
  made.on('console', (message) => faults.push(`${made.url()}: ${message.text()}`));
  made.on('pageerror', (error) => faults.push(`${made.url()}: ${error.message}`));
  return made;
}

/** Goes to an address with the page that is there, as it was when it was new. */
async function goTo(path: string): Promise<void> {
  await page.setViewportSize(WIDE);
  await page.emulateMedia({ colorScheme: 'light' });
  await page.goto(server.url + path);
}

/** What axe finds in a page, light and dark, where colours alone are others; and how wide it is at 400 pixels. */
async function lookedAt(it = page): Promise<readonly [found: string[], width: unknown]> {
  const found: string[] = [];
  for (const [colorScheme, rules] of [
    ['light', ''],
    ['dark', "{ runOnly: ['color-contrast'] }"],
  ] as const) {
    await it.emulateMedia({ colorScheme });
    const violations = await it.evaluate<string[]>(
      `${rules === '' ? AXE : ''}; axe.run(${rules}).then((result) => result.violations.map(({ id, nodes }) => id + ' ' + nodes[0].html))`,
    );
    found.push(...violations);
  }
  await it.setViewportSize({ width: 400, height: 800 });
  return [found, await it.evaluate('document.documentElement.scrollWidth')];
}

const PAGES = [
  '/',
  '/t/orders?as_of=2026-02-01+09:15&known=now',
  '/t/orders/key?k=1',
  '/t/orders/diff?from=2026-02-01+09:00',
  '/t/orders/schema',
  '/batches',
  '/work',
];

const tried = test.skipIf(CHROMIUM === undefined);

tried('the slider moves the page to another moment, and its address with it', async () => {
  await goTo('/t/orders/key?k=1');
  await page.locator('[data-slider]').focus();
  await page.keyboard.press('Home');
  await page.waitForURL(/as_of=2026-02-01\+09%3A00%3A00/);
  await page.locator('.past-banner').waitFor();
  expect(await page.locator('.versions .chosen').textContent()).toContain('2026-02-01 09:00:00');
  // It is where the keys go, still.
  await page.keyboard.press('ArrowRight');
  await page.waitForURL(/09%3A10%3A00/);
  await page.locator('.past-banner a:last-child').click();
  await page.waitForURL(/key\?k=1$/);
  await page.goBack();
  expect(page.url()).toContain('09%3A10%3A00');
});

tried('everything can be reached by keys', async () => {
  await goTo('/t/orders');
  await page.keyboard.press('j');
  await page.keyboard.press('j');
  expect(await page.evaluate('document.activeElement.textContent')).toBe('2');
  await page.keyboard.press('Enter');
  await page.waitForURL(/key\?k=2/);
  await page.keyboard.press('[');
  await page.waitForURL(/as_of=/);
  await page.keyboard.press('?');
  expect(await page.locator('dialog').textContent()).toContain('previous and next change');
  await page.keyboard.press('Escape');
  await page.keyboard.press('/');
  await page.keyboard.type('1');
  await page.keyboard.press('Enter');
  await page.waitForURL(/key\?k=1/);
  await page.keyboard.press('g');
  await page.keyboard.press('w');
  await page.waitForURL(/work/);
});

tried('everything works without a script: moments, filters, keys', async () => {
  const page = await newPage({ javaScriptEnabled: false });
  await page.goto(`${server.url}/t/orders`);
  await page.fill('[name=as_of]', '2026-02-01 09:12');
  await page.click('form.moment button');
  expect(await page.locator('tbody tr').count()).toBe(1);
  await page.selectOption('[name=column]', 'order_status');
  await page.fill('[name=equals]', 'pending');
  await page.click('form.filters button');
  expect(page.url()).toContain('f.order_status=pending');
  expect(await page.locator('.empty').textContent()).toContain('No row was there then');
  await page.click('.past-banner a:last-child');
  await page.click('.chip a');
  await page.click('tbody a');
  expect(await page.locator('h1').textContent()).toContain('3 versions');
  await page.close();
});

tried.each(PAGES)(
  'axe finds nothing in %s, light and dark, and at 400 pixels nothing is wider than the page',
  async (path) => {
    await goTo(path);
    expect(await lookedAt()).toEqual([[], 400]);
  },
);

tried(
  'an action is taken with a token, a look at what it would do, and a reason; back and reload do not do it again',
  async () => {
    const acting = await serveConsole({ ...pipeline.settings, console_allow_actions: 'yes' }, 'a token');
    const page = await newPage();
    await page.goto(`${acting.url}/work`);
    await page.fill('[name=token]', 'a token');
    await page.keyboard.press('Enter');
    await page.waitForURL(`${acting.url}/`);
    await page.click('a[href="/work"]');
    await page.click('text=dismiss…');
    expect(await page.locator('.lead').textContent()).toContain('1 rejected changes dismissed');
    await page.click('button.main');
    expect(await page.locator('[name=reason]:invalid').count()).toBe(1);
    expect(await lookedAt(page)).toEqual([[], 400]);
    await page.fill('[name=reason]', 'nobody needs it');
    await page.click('button.main');
    await page.locator('.done').waitFor();
    expect(await page.locator('.done').textContent()).toContain('nobody needs it');
    expect(await lookedAt(page)).toEqual([[], 400]);
    await page.reload();
    await page.goBack();
    await page.goForward();
    expect(await pipeline.warehouse`select from tidemark.actions`).toHaveLength(1);
    // Without a token, and where it is done already, a page says so.
    const others = faults.filter((fault) => !(fault.startsWith(acting.url) && / status of 4(01|09)/.test(fault)));
    faults.splice(0, faults.length, ...others);
    await page.close();
    await acting.close();
  },
);

tried(
  'a token is taken from the form at another address, too, where the browser says less of where it comes from',
  async () => {
    const console_token_file = path.join(pipeline.folder, 'token');
    await writeFile(console_token_file, 'a token', { mode: 0o600 });
    const far = await serveConsole({ ...pipeline.settings, console_host: '0.0.0.0', console_token_file });
    const page = await newPage();
    await page.goto(`${far.url.replace('0.0.0.0', 'tidemark.test')}/work`);
    await page.fill('[name=token]', 'a token');
    await page.keyboard.press('Enter');
    await page.locator('text=alert').first().waitFor();
    const others = faults.filter((fault) => !/^http:\/\/tidemark\.test.* status of 401/.test(fault));
    faults.splice(0, faults.length, ...others);
    await page.close();
    await far.close();
  },
);

tried('no page makes the browser complain', () => {
  expect(faults).toEqual([]);
});
