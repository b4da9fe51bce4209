// Runs once: history.property.test.ts folds at large, on each version.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';

let warehouse: TestDatabase;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
});
afterAll(async () => {
  await warehouse.drop();
});

/** One change, captured at 10:00: operation, effective time, tracked columns (a text, or null), which of them it has, and its start where it is stored. */
type Told = readonly [
  operation: string,
  effective: string,
  content: readonly (string | null)[],
  known?: readonly boolean[] | undefined,
  stored?: string,
];

/** What becomes of each change: the verdict, the time it takes effect where it does, and whether a life begins. */
async function foldOf(changes: readonly Told[]): Promise<string[]> {
  const rows = changes.map(([operation, effective, content, known = null, stored = null]) => ({
    operation,
    effective: `2026-02-01T${effective}Z`,
    content,
    known,
    stored: stored === null ? null : `2026-02-01T${stored}Z`,
  }));
  const found = await warehouse.sql<{ line: string }[]>`
    select concat_ws(' ', (f.state).verdict, to_char((f.state).takes_effect, 'HH24:MI:SS.US'), case when (f.state).begins_life then 'a life begins' end) as line
    from (
      select r.line, tidemark.fold(r.operation, r.effective, '2026-02-01T10:00Z', r.content, r.known, r.stored) over (order by r.line) as state
      from rows from (json_to_recordset(${JSON.stringify(rows)}::text::json) as (operation text, effective timestamptz, content text[], known boolean[], stored timestamptz))
        with ordinality as r (operation, effective, content, known, stored, line)
    ) as f order by f.line`;
  return found.map(({ line }) => line.replace(':00.000000', ''));
}

test.each<[string, readonly Told[], readonly string[]]>([
  [
    'a first change opens a version, its repeat is absorbed, the next one takes over',
    [
      ['INSERT', '09:00', ['A']],
      ['UPDATE', '09:10', ['A']],
      ['UPDATE', '09:20', ['B']],
    ],
    ['opened 09:00 a life begins', 'unchanged 09:00 a life begins', 'opened 09:20'],
  ],
  [
    'a DELETE ends what is in force, a second one nothing, and what comes back begins a life',
    [
      ['INSERT', '09:00', ['A']],
      ['DELETE', '09:10', [null]],
      ['DELETE', '09:20', [null]],
      ['UPDATE', '09:05', ['A']],
    ],
    [
      'opened 09:00 a life begins',
      'delete 09:10 a life begins',
      'nothing to delete 09:10 a life begins',
      'opened 10:00 a life begins',
    ],
  ],
  [
    'nulls are equal to each other and to nothing else',
    [
      ['INSERT', '09:00', [null]],
      ['UPDATE', '09:10', [null]],
      ['UPDATE', '09:20', ['']],
    ],
    ['opened 09:00 a life begins', 'unchanged 09:00 a life begins', 'opened 09:20'],
  ],
  [
    'a column that a change does not have equals anything',
    [
      ['INSERT', '09:00', ['A', 'x']],
      ['UPDATE', '09:10', ['A', null], [true, false]],
      ['UPDATE', '09:20', ['A', 'y']],
    ],
    ['opened 09:00 a life begins', 'unchanged 09:00 a life begins', 'opened 09:20'],
  ],
  [
    'a version without a column takes its first value, even null, and compares by it from then on',
    [
      ['INSERT', '09:00', ['A', null], [true, false]],
      ['UPDATE', '09:10', ['A', null]],
      ['UPDATE', '09:20', ['A', 'x']],
    ],
    ['opened 09:00 a life begins', 'unchanged 09:00 a life begins', 'opened 09:20'],
  ],
  [
    'a stored version begins when it began, whatever its change said',
    [
      ['UPDATE', '08:00', ['A'], undefined, '09:30'],
      ['UPDATE', '09:20', ['B']],
    ],
    ['opened 09:30', 'opened 10:00'],
  ],
])('%s', async (_, changes, expected) => {
  expect(await foldOf(changes)).toEqual(expected);
});
