import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { batch, change, checksum } from '../../support/batches.js';

let warehouse: TestDatabase;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
});
afterAll(async () => {
  await warehouse.drop();
});

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

async function checksumOf(changes: string | null): Promise<string | null> {
  const [row] = await warehouse.sql<
    [{ checksum: string | null }]
  >`select tidemark.batch_checksum(${changes}::text::json) as checksum`;
  return row.checksum;
}

test.each<[string, string, string]>([
  ['no change', '[]', ''],
  ['no change, on a line of its own', '[\n]', ''],
  ['one change', '[\n{"id": 1}\n]', '{"id": 1}\n'],
  ['two changes, commas and line breaks included', '[\n{"id": 1},\n{"id": 2}\n]', '{"id": 1},\n{"id": 2}\n'],
  ['changes on one line with the brackets', '[{"id": 1}, {"id": 2}]', '{"id": 1}, {"id": 2}'],
  ['spaces as they stand', '[ {"id" :1} ]', ' {"id" :1} '],
  ['an array at the end of the last change', '[\n{"a":[1,[2]]}\n]', '{"a":[1,[2]]}\n'],
  ['letters beyond ASCII, as UTF-8', '[\n{"☃": "é𝄞"}\n]', '{"☃": "é𝄞"}\n'],
  ['escapes as they stand', '[\n{"a": "\\u00e9\\n"}\n]', '{"a": "\\u00e9\\n"}\n'],
  ['Windows line breaks, but for the first', '[\r\n{"id": 1}\r\n]', '{"id": 1}\r\n'],
])('is the SHA-256 of the change lines: %s', async (_, changes, lines) => {
  expect(await checksumOf(changes)).toBe(sha256(lines));
});

test('of null is null', async () => {
  expect(await checksumOf(null)).toBeNull();
});

test('tells apart what JSON would call equal', async () => {
  const all = await Promise.all(
    ['[{"a":1,"b":2}]', '[{"b":2,"a":1}]', '[{"a":1.0,"b":2}]', '[{"a":1,"a":1,"b":2}]', '[{"a":1, "b":2}]'].map(
      checksumOf,
    ),
  );
  expect(new Set(all).size).toBe(5);
});

test('is what a shell makes of the file', async () => {
  const document = batch('b1', '10:00', [change(1, "it's", '09:00'), change(2, 'é', '09:10')]);
  const [shell] = execFileSync('sh', ['-c', `sed '1,/^"changes"/d;$d' | sha256sum`], {
    input: document,
    encoding: 'utf8',
  }).split(' ');
  const [row] = await warehouse.sql`select tidemark.batch_checksum(${document}::text::json -> 'changes') as checksum`;
  expect(row).toEqual({ checksum: shell });
  expect(
    checksum(
      document
        .split('\n')
        .slice(2, -2)
        .map((line) => line.replace(/,$/, '')),
    ),
  ).toBe(shell);
});
