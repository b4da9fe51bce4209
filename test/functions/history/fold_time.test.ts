import { afterAll, beforeAll, expect, test } from 'vitest';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';

let warehouse: TestDatabase;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
});
afterAll(async () => {
  await warehouse.drop();
});

/** One change: its own time, the time of its capture, and whether a version is in force before it. */
type Step = readonly [effective: string | null, captured: string, inForce: boolean];

async function foldTimes(start: string | null, steps: readonly Step[]): Promise<string[]> {
  const time = (text: string | null) => (text !== null && /^\d/.test(text) ? `2026-02-01T${text}Z` : text);
  const rows = steps.map(([effective, captured, in_force]) => ({
    effective: time(effective),
    captured: time(captured),
    in_force,
  }));
  const result = await warehouse.sql<{ t: string }[]>`
    select to_char(tidemark.fold_time(s.effective, s.captured, s.in_force, ${time(start)}::timestamptz) over (order by s.line), 'HH24:MI:SS.US') as t
    from rows from (json_to_recordset(${JSON.stringify(rows)}::text::json) as (effective timestamptz, captured timestamptz, in_force boolean))
      with ordinality as s (effective, captured, in_force, line)
    order by s.line`;
  return result.map(({ t }) => t.replace(/\.0+$/, '').replace(/^(\d\d:\d\d):00$/, '$1'));
}

const IN_FORCE = true;
const NONE = false;

test.each<[string, string | null, readonly Step[], readonly string[]]>([
  ['a new key takes the time of its change', null, [['09:00', '10:00', NONE]], ['09:00']],
  ['a time that is exactly the capture can be right', null, [['10:00', '10:00', NONE]], ['10:00']],
  [
    'a new key whose time lies after its capture begins at the capture',
    null,
    [['10:00:00.000001', '10:00', NONE]],
    ['10:00'],
  ],
  ['a new key with an infinite time begins at its capture', null, [['infinity', '10:00', NONE]], ['10:00']],
  ['minus infinity is no time either', null, [['-infinity', '10:00', NONE]], ['10:00']],
  ['a change takes over from the version in force at its own time', '09:00', [['09:30', '10:00', IN_FORCE]], ['09:30']],
  [
    'one microsecond after the version in force is late enough',
    '09:00',
    [['09:00:00.000001', '10:00', IN_FORCE]],
    ['09:00:00.000001'],
  ],
  [
    'a time equal to that of the version in force is replaced by the capture',
    '09:00',
    [['09:00', '10:00', IN_FORCE]],
    ['10:00'],
  ],
  ['a time before the version in force is replaced by the capture', '09:00', [['08:00', '10:00', IN_FORCE]], ['10:00']],
  ['an infinite time is replaced by the capture', '09:00', [['infinity', '10:00', IN_FORCE]], ['10:00']],
  ['minus infinity is replaced by the capture', '09:00', [['-infinity', '10:00', IN_FORCE]], ['10:00']],
  ['a time after the capture is replaced by the capture', '09:00', [['11:00', '10:00', IN_FORCE]], ['10:00']],
  [
    'a capture as old as the version in force gives way by a microsecond',
    '10:00',
    [['09:00', '10:00', IN_FORCE]],
    ['10:00:00.000001'],
  ],
  [
    'a capture older than the version in force gives way by a microsecond',
    '10:30',
    [['09:00', '10:00', IN_FORCE]],
    ['10:30:00.000001'],
  ],
  ['a key that comes back takes its own time', '09:00', [['09:30', '10:00', NONE]], ['09:30']],
  ['a key may come back at the moment it went', '09:00', [['09:00', '10:00', NONE]], ['09:00']],
  ['a key that comes back with an old time begins at the capture', '09:30', [['09:00', '10:00', NONE]], ['10:00']],
  [
    'a key that comes back with an old time never begins before its end',
    '10:30',
    [['09:00', '10:00', NONE]],
    ['10:30'],
  ],
  [
    'a key that comes back with an infinite time begins at the capture',
    '09:30',
    [['infinity', '10:00', NONE]],
    ['10:00'],
  ],
  [
    'each change follows the one before it, not the stored version',
    '09:00',
    [
      ['09:10', '10:00', IN_FORCE],
      ['09:20', '10:00', IN_FORCE],
      ['09:30', '10:00', IN_FORCE],
    ],
    ['09:10', '09:20', '09:30'],
  ],
  [
    'changes without a usable time in one batch stand a microsecond apart',
    '09:00',
    [
      ['09:00', '10:00', IN_FORCE],
      ['09:00', '10:00', IN_FORCE],
      ['09:00', '10:00', IN_FORCE],
    ],
    ['10:00', '10:00:00.000001', '10:00:00.000002'],
  ],
  [
    'a change between two good times does not disturb the second',
    '09:00',
    [
      ['09:10', '09:15', IN_FORCE],
      ['09:05', '09:15', IN_FORCE],
      ['09:20', '09:30', IN_FORCE],
    ],
    ['09:10', '09:15', '09:20'],
  ],
  [
    'a replaced time holds back a good one that lies before it',
    '09:00',
    [
      ['infinity', '10:00', IN_FORCE],
      ['09:30', '10:00', IN_FORCE],
    ],
    ['10:00', '10:00:00.000001'],
  ],
  [
    'deleted and back within a batch without usable times: not even a microsecond lies between',
    '09:00',
    [
      ['09:00', '10:00', IN_FORCE],
      ['09:00', '10:00', NONE],
      ['09:00', '10:00', IN_FORCE],
    ],
    ['10:00', '10:00', '10:00:00.000001'],
  ],
])('%s', async (_, start, steps, expected) => {
  expect(await foldTimes(start, steps)).toEqual(expected);
});

test('keys are folded apart from each other', async () => {
  const rows = await warehouse.sql<{ t: string }[]>`
    select to_char(tidemark.fold_time(s.effective, '2026-02-01T10:00Z', true, s.start) over (partition by s.key order by s.line), 'HH24:MI:SS.US') as t
    from (values
      (1, 'a', timestamptz '2026-02-01T09:30Z', timestamptz '2026-02-01T09:00Z'),
      (2, 'b', timestamptz '2026-02-01T09:10Z', timestamptz '2026-02-01T08:00Z'),
      (3, 'a', timestamptz '2026-02-01T09:20Z', timestamptz '2026-02-01T09:00Z'),
      (4, 'b', timestamptz '2026-02-01T09:20Z', timestamptz '2026-02-01T08:00Z')
    ) as s (line, key, effective, start)
    order by s.line`;
  expect(rows.map(({ t }) => t)).toEqual(['09:30:00.000000', '09:10:00.000000', '10:00:00.000000', '09:20:00.000000']);
});
