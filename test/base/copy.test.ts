import { Writable } from 'node:stream';
import { setImmediate as later } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { copyOut } from '../../runner/base/copy.js';
import { connect } from '../../runner/base/database.js';
import { inTransaction } from '../../runner/base/transaction.js';
import { createEmptyDatabase, type TestDatabase } from '../support/databases.js';

let database: TestDatabase;
beforeAll(async () => {
  database = await createEmptyDatabase();
});
afterAll(async () => {
  await database.drop();
});

const LINES = `copy (select repeat('x', 999) from generate_series(1, 1000)) to stdout`;

/** Takes lines no faster than the event loop turns; after so many bytes no more. */
const slow = (most = Infinity) => {
  const taken = { bytes: 0 };
  const stream = new Writable({
    write: (chunk: Buffer, _, done) => {
      taken.bytes += chunk.length;
      const fault = taken.bytes > most ? new Error('it is full') : undefined;
      void later().then(() => {
        done(fault);
      });
    },
  });
  return { taken, stream };
};

test('more can be asked of a session after a COPY that was read slowly', async () => {
  const session = connect(database.settings, 'test');
  const { taken, stream } = slow();
  const answer = await inTransaction(session, 'read only', async (sql) => {
    await copyOut(session, sql, LINES, stream);
    return sql`select 1 as one`;
  });
  expect([...answer]).toEqual([{ one: 1 }]);
  expect(taken.bytes).toBe(1_000_000);
  await session.end();
});

test('a stream that takes no more ends the COPY, and its error is what is told', async () => {
  const session = connect(database.settings, 'test');
  const copying = inTransaction(session, 'read only', (sql) => copyOut(session, sql, LINES, slow(100_000).stream));
  await expect(copying).rejects.toThrow('it is full');
});
