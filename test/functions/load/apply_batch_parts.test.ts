import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Database } from '../../../runner/base/database.js';
import { applyBatch } from '../../../runner/warehouse/batches.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import {
  alreadyApplied,
  apply,
  applied,
  batch,
  change,
  empty,
  everything,
  rolledBack,
  versions,
} from '../../support/batches.js';
import { documentParts } from '../../../runner/batch/document.js';

/** A document in two parts is the document. */

let warehouse: TestDatabase;
let sql: Database;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  sql = warehouse.sql;
});
beforeEach(async () => {
  await empty(sql);
});
afterAll(async () => {
  await warehouse.drop();
});

/** In the frame of a batch file, which the documents of the tests have but for one line break. */
const framed = (document: string): string => document.replace('{"batch_metadata"', '{\n"batch_metadata"');
const DOCUMENT = framed(
  batch('b1', '10:00', [
    change(1, 'pending', '09:00'),
    change(1, ']}', '09:10'),
    change(2, '☃\n"changes": [', '09:15'),
  ]),
);

test('its parts are the texts of its members, byte for byte', () => {
  const parts = documentParts(DOCUMENT);
  expect(`{\n"batch_metadata": ${parts?.metadata ?? ''},\n"changes": ${parts?.changes ?? ''}}\n`).toBe(DOCUMENT);
  expect(JSON.parse(parts?.changes ?? '')).toHaveLength(3);
});

test.each([
  ['another frame', batch('b1', '10:00', [change(1, 'A', '09:00')])],
  ['one that was cut', DOCUMENT.slice(0, -2)],
  ['no changes', '{\n"batch_metadata": {}\n]}\n'],
  ['none', ''],
])('a document in %s has no parts', (_, text) => {
  expect(documentParts(text)).toBeUndefined();
});

test('the warehouse makes the same of the parts as of the document, and knows it again either way', async () => {
  const whole = await rolledBack(sql, async (transaction) => [
    await apply(transaction, DOCUMENT),
    await versions(transaction),
  ]);
  const inParts = await applyBatch(sql, DOCUMENT);
  expect([inParts, await versions(sql)]).toEqual(whole);
  expect(inParts).toEqual(applied({ inserted_versions: 3, closed_versions: 1 }));
  const stored = await everything(sql);
  expect([await apply(sql, DOCUMENT), await applyBatch(sql, DOCUMENT)]).toEqual([alreadyApplied(), alreadyApplied()]);
  expect(await everything(sql)).toEqual(stored);
});

test.each([
  ['metadata is null', null, '[]', 'TM001'],
  ['metadata is no object', '[]', '[]', 'TM001'],
  ['changes are null', '{"batch_id": "b"}', null, 'TM001'],
  ['changes are no array', '{"batch_id": "b"}', '{}', 'TM001'],
  ['the checksum is that of other changes', documentParts(DOCUMENT)?.metadata ?? '', '[]', 'TM008'],
])('nothing is applied where %s', async (_, metadata, changes, code) => {
  await expect(
    sql`select * from tidemark.apply_batch_parts(${metadata}::text::json, ${changes}::text::json)`,
  ).rejects.toMatchObject({ code });
  expect(await versions(sql)).toEqual([]);
});
