import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runCli } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';

let pipeline: TestPipeline;
beforeAll(async () => {
  pipeline = await createPipeline();
  expect((await runCli(['demo'], pipeline.env)).code).toBe(0);
});
afterAll(async () => {
  await pipeline.drop();
});

const report = (...args: string[]) =>
  runCli(['report', ...(args.includes('--output') ? [] : ['--output', pipeline.folder]), ...args], pipeline.env);

/** The rows of the table below a heading, as cells. */
function rowsBelow(text: string, heading: string): string[][] {
  const below = text
    .slice(text.indexOf(heading) + heading.length)
    .trim()
    .split('\n');
  const from = below.findIndex((line) => line.startsWith('|---'));
  const rows = below.slice(from + 1);
  return rows
    .slice(
      0,
      rows.findIndex((line) => !line.startsWith('|')),
    )
    .map((line) => line.slice(2, -2).split(' | '));
}

/** With tidemark.retractions_of. */
describe('tidemark report', () => {
  test('counts versions, says how often rows change and which change most, and names its file after the time', async () => {
    const { code, stdout } = await report('--table', 'orders');
    expect(code).toBe(0);
    expect(path.basename(stdout.trim())).toMatch(/^scd2_lineage_report_\d{8}_\d{6}_\d{3}\.md$/);
    const text = await readFile(stdout.trim(), 'utf8');
    expect(rowsBelow(text, '## orders')[0]?.slice(0, 3)).toEqual(['4', '3', '1']);
    expect(rowsBelow(text, '### How often rows change')).toEqual([
      ['1', '2'],
      ['2', '1'],
    ]);
    expect(rowsBelow(text, '### The longest histories')[0]).toEqual([
      '{"order\\_key" : 1}',
      '2',
      '2026-02-01 09:00:00',
      '2026-02-01 09:10:00',
      'current',
    ]);
  });

  test('shows for a key each version with the batch file and the line its change came from, which is where it is', async () => {
    const { stdout } = await report('--table', 'orders', '--key', '1');
    const text = await readFile(stdout.trim(), 'utf8');
    const versions = rowsBelow(text, '### Where the versions of 1 came from');
    expect(versions.map((row) => row.slice(0, 5))).toEqual([
      ['1', '2026-02-01 09:00:00', '2026-02-01 09:10:00', 'INSERT', '–'],
      ['2', '2026-02-01 09:10:00', 'in force', 'UPDATE', 'order\\_status: pending → confirmed'],
    ]);
    for (const [index, status] of ['pending', 'confirmed'].entries()) {
      const [file = '', line = ''] = versions[index]?.slice(5, 7).map((text) => text.replaceAll('\\', '')) ?? [];
      const content = await readFile(path.join(pipeline.settings.cdc_log_dir, file));
      const changes =
        (file.endsWith('.gz') ? gunzipSync(content) : content).toString().split('"changes": [\n')[1]?.split('\n') ?? [];
      expect(changes[Number(line) - 1]).toContain(`"order_status":"${status}"`);
    }
  });

  test('--html is one file with the drawings of the console, which loads nothing, runs nothing and shows nothing that is masked', async () => {
    const { warehouse } = pipeline;
    await warehouse`update public.dim_orders_history set order_status = '<script>alert(1)</script>', unit_price = 77.77 where order_key = 2`;
    await warehouse`select tidemark.mask_column('orders', 'unit_price')`;
    const { stdout, code } = await report('--html', '--table', 'orders', '--key', '2');
    expect([code, path.basename(stdout.trim())]).toEqual([0, expect.stringMatching(/^scd2_lineage_report_.*\.html$/)]);
    const text = await readFile(stdout.trim(), 'utf8');
    expect(text).toMatch(/<style>[^]*<svg class="histogram"[^]*<svg class="lifeline"/);
    expect(text).toMatch(/<h2>orders<\/h2>[^]*4 versions, 3 of them current[^]*\{&quot;order_key&quot; : 1\}/);
    expect(text).toMatch(/from <a>changes_\w+ line \d/);
    expect(text).toContain('&lt;script&gt;alert(1)');
    expect(text).not.toMatch(/<script|<form|<link|<img|href="\/|url\(|@import/);
    expect(text).toMatch(/<dt>unit_price<\/dt><dd><span class="null" title="not yours to see">•••/);
    expect(text).not.toContain('77.77');
    await warehouse`select tidemark.mask_column('orders', 'unit_price', false)`;
  });

  test('has a section for every table that is registered', async () => {
    const text = await readFile((await report()).stdout.trim(), 'utf8');
    expect(text.match(/^## .*/gm)).toEqual(['## customers', '## orders', '## products']);
  });

  test.each([
    [['--output', '.', '--output', '..'], 2, '--output is given twice'],
    [['--table', 'nothing'], 2, 'no table of that name is registered: nothing'],
    [['--table', 'orders', '--key', '99'], 1, 'the key has no history'],
    [['--table', 'orders', '--key', '1', '--key', '2'], 1, 'the key does not fit the dimension'],
    [
      ['--table', 'orders', '--key', 'one'],
      2,
      '--key is no key of orders: invalid input syntax for type integer: "one"',
    ],
  ])('%j is refused', async (args, code, message) => {
    const refused = await report(...args);
    expect(refused.stderr).toContain(message);
    expect(refused.code).toBe(code);
  });

  test('that cannot be written says where, and leaves nothing', async () => {
    const folder = path.join(pipeline.folder, 'missing', 'folder');
    const refused = await report('--output', folder);
    expect(refused.stderr).toContain('the report cannot be written');
    expect(refused.stderr).toContain(folder);
    expect(refused.code).toBe(1);
    expect(existsSync(folder)).toBe(false);
  });

  test('names the batches that were taken out of history, with who, when and why; status those that are out', async () => {
    const sql = pipeline.warehouse;
    const [batch] = await sql<{ batch_id: string; change_count: number }[]>`
      select batch_id, change_count from tidemark.batches where dimension_name = 'customers' order by sequence limit 1`;
    const { batch_id: id, change_count: changes } = batch ?? { batch_id: '', change_count: 0 };
    await sql`select tidemark.retract_batch(p_dimension_name => 'customers', p_batch_id => ${id}, p_reason => 'wrong | prices', p_who => 'Ida')`;
    const listed = async () =>
      rowsBelow(await readFile((await report()).stdout.trim(), 'utf8'), '### Batches taken out of history');
    const told = async () => {
      const { stdout } = await runCli(['status', '--json'], pipeline.env);
      return (JSON.parse(stdout) as { retractions: object[] }).retractions;
    };
    expect(await listed()).toEqual([
      [id.replaceAll('_', '\\_'), String(changes), expect.stringMatching(/^\d{4}-/), 'Ida', 'wrong \\| prices', 'no'],
    ]);
    expect(await told()).toMatchObject([
      {
        dimension_name: 'customers',
        batch_id: id,
        retracted_by: 'Ida',
        reason: 'wrong | prices',
        retracted_changes: changes,
      },
    ]);
    const words = (await runCli(['status'], pipeline.env)).stdout;
    expect(words).toMatch(
      new RegExp(`Batches taken out of history\n.*\ncustomers +${id} +${String(changes)} .* Ida +wrong \\| prices`),
    );
    await sql`select tidemark.restore_batch(p_dimension_name => 'customers', p_batch_id => ${id}, p_who => 'Jon')`;
    expect((await listed())[0]?.at(-1)).toMatch(/, by Jon$/);
    expect(await told()).toEqual([]);
  });
});
