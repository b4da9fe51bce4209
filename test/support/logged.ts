import fc from 'fast-check';
import { batch, type Change } from './batches.js';
import { foldOf, type Instant, type OracleChange } from './oracle.js';
import { BAD, NINE, iso } from './scenarios.js';

/**
 * Random transactions of a source table, as the log tells them: several changes of a key, keys that change and are swapped, values that
 * are left out because they did not change, truncations. The table has rows that history never saw. Cut into batches anywhere.
 */

const KEYS = 4;

export interface ToldStep {
  readonly kind: 'write' | 'move' | 'swap' | 'delete' | 'truncate';
  readonly key: number;
  readonly other: number;
  readonly effective: Instant | null;
  readonly a: string;
  readonly b: string;
  readonly u: string;
  readonly w: string;
  /** An update leaves out the value, which did not change. */
  readonly keepsA: boolean;
  readonly keepsU: boolean;
  readonly commits: boolean;
  /** Whether a batch ends here, wherever the transaction stands. */
  readonly cuts: boolean;
}

/** A change that was polled from elsewhere, and is loaded after all others, though captured between two transactions. */
export interface ToldPoll {
  readonly after: number;
  readonly key: number;
  readonly operation: 'UPDATE' | 'DELETE';
  readonly a: string;
  readonly b: string;
  readonly u: string;
  readonly w: string;
}

export interface LoggedScenario {
  readonly steps: readonly ToldStep[];
  readonly polls: readonly ToldPoll[];
  /** Keys of rows that the source has and history never saw. */
  readonly unseen: readonly number[];
}

const effective: fc.Arbitrary<Instant | null> = fc.oneof(
  { weight: 4, arbitrary: fc.constant(null) },
  { weight: 2, arbitrary: fc.integer({ min: 0, max: 40 }).map((step) => NINE + BigInt(step) * 1_000_000n) },
);

const values = (bad: boolean) => ({
  a: bad ? fc.constantFrom('x', 'x', 'y', BAD) : fc.constantFrom('x', 'x', 'y'),
  b: fc.constantFrom('1', '1', '2'),
  u: fc.constantFrom('p', 'q'),
  w: fc.constantFrom('7', '8'),
});

const key = fc.integer({ min: 0, max: KEYS - 1 });

export const loggedScenarios = ({ withPolls = false } = {}): fc.Arbitrary<LoggedScenario> =>
  fc.record({
    steps: fc.array(
      fc.record({
        kind: fc.constantFrom(...(['write', 'write', 'write', 'write', 'move', 'swap', 'delete', 'truncate'] as const)),
        key,
        other: key,
        effective,
        ...values(!withPolls),
        keepsA: fc.boolean(),
        keepsU: fc.boolean(),
        commits: fc.boolean(),
        cuts: fc.integer({ min: 0, max: 3 }).map((n) => n === 0),
      }),
      { minLength: 3, maxLength: 24, size: 'max' },
    ),
    polls: withPolls
      ? fc.array(
          fc.record({
            after: fc.integer({ min: 0, max: 12 }),
            key,
            operation: fc.constantFrom('UPDATE', 'UPDATE', 'DELETE'),
            ...values(false),
          }),
          { minLength: 1, maxLength: 6 },
        )
      : fc.constant([]),
    unseen: fc.subarray([0, 1, 2, 3]),
  });

interface Row {
  a: string;
  b: string;
  u: string;
  w: string;
  /** Columns that the log has told of this row since history began. */
  told: Set<string>;
}

interface Line {
  readonly key: number | 'all';
  readonly document: Change;
  readonly row: Row | null;
  readonly captured: bigint;
  readonly effective: Instant | null;
  readonly cuts: boolean;
}

/** What the log tells of the steps, and the state of each row after each. */
function linesOf({ steps, unseen }: LoggedScenario): Line[] {
  const rows = new Map<number, Row>(
    unseen.map((one) => [one, { a: 'z', b: '9', u: 'z', w: '9', told: new Set<string>() }]),
  );
  const lines: Line[] = [];
  let captured = NINE + 10_000_000n;
  for (const step of steps) {
    tell(step, rows, (line) => lines.push({ ...line, captured, cuts: step.cuts }));
    if (step.commits) captured += 1_000_000n;
  }
  return lines;
}

type Teller = (line: Omit<Line, 'captured' | 'cuts'>) => void;

function tell(step: ToldStep, rows: Map<number, Row>, say: Teller): void {
  const remove = (one: number) => {
    rows.delete(one);
    say({ key: one, document: { id: one, operation_type: 'DELETE' }, row: null, effective: null });
  };
  const write = (one: number, before: Row | undefined, of?: number) => {
    const row = rowAfter(step, before);
    rows.set(one, row);
    say({ key: one, document: documentOf(step, one, row, before, of), row: { ...row }, effective: step.effective });
  };
  const move = (from: number, to: number) => {
    const before = rows.get(from);
    remove(from);
    write(to, before, from);
  };
  const [isThere, isOtherThere] = [rows.has(step.key), rows.has(step.other)];
  if (step.kind === 'truncate') {
    rows.clear();
    say({ key: 'all', document: { operation_type: 'TRUNCATE' }, row: null, effective: null });
  } else if (step.kind === 'delete' && isThere) remove(step.key);
  else if (step.kind === 'move' && isThere && !isOtherThere) move(step.key, step.other);
  else if (step.kind === 'swap' && isThere && isOtherThere && step.key !== step.other) {
    move(step.key, KEYS);
    move(step.other, step.key);
    move(KEYS, step.other);
  } else if (step.kind === 'write') write(step.key, rows.get(step.key));
}

function rowAfter({ a, b, u, w, keepsA, keepsU }: ToldStep, before: Row | undefined): Row {
  const told = new Set(before === undefined ? [] : before.told);
  if (before === undefined || !keepsA) told.add('a');
  if (before === undefined || !keepsU) told.add('u');
  return {
    a: before !== undefined && keepsA ? before.a : a,
    b,
    u: before !== undefined && keepsU ? before.u : u,
    w,
    told,
  };
}

function documentOf(step: ToldStep, id: number, row: Row, before: Row | undefined, of: number | undefined): Change {
  const unchanged = before === undefined ? [] : [...(step.keepsA ? ['a'] : []), ...(step.keepsU ? ['u'] : [])];
  return {
    id,
    ...(unchanged.includes('a') ? {} : { a: row.a }),
    b: Number(row.b),
    ...(unchanged.includes('u') ? {} : { u: row.u }),
    w: Number(row.w),
    ...(unchanged.length === 0 ? {} : { unchanged }),
    ...(unchanged.length === 0 || of === undefined ? {} : { unchanged_of: { id: of } }),
    operation_type: before === undefined || of !== undefined ? 'INSERT' : 'UPDATE',
  };
}

/** The batches: cut where a step says so, and around a truncation. */
function batchesOf(scenario: LoggedScenario): Line[][] {
  const batches: Line[][] = [];
  let open: Line[] = [];
  const end = () => {
    if (open.length > 0) batches.push(open);
    open = [];
  };
  for (const line of linesOf(scenario)) {
    if (line.key === 'all') end();
    open.push(line);
    if (line.key === 'all' || line.cuts) end();
  }
  end();
  return batches;
}

/** The name of a batch by its place in the chain. */
export const nameOf = (index: number): string => `l${String(100 + index)}`;
const stamp = (time: Instant) => `${iso(time)}${typeof time === 'string' ? '' : 'Z'}`;

/** The documents of the log, in the order of their chain. */
export function loggedDocumentsOf(scenario: LoggedScenario, table: string): string[] {
  let previous: string | null = null;
  return batchesOf(scenario).map((lines, index) => {
    const document = batch(
      nameOf(index),
      iso(lines.at(-1)?.captured ?? NINE),
      lines.map((line) => ({
        ...line.document,
        cdc_timestamp: stamp(line.effective ?? line.captured),
        extracted_at: stamp(line.captured),
      })),
      {
        table,
        format: 2,
        sequence: index + 1,
        columns: ['id', 'a', 'b', 'u', 'w', 'touched'],
        previous_batch_id: index === 0 ? null : nameOf(index - 1),
        previous_checksum: previous,
        log: { slot: 's', unchanged: lines.filter(({ document: line }) => 'unchanged' in line).length },
      },
    );
    previous = (JSON.parse(document) as { batch_metadata: { checksum: string } }).batch_metadata.checksum;
    return document;
  });
}

const capturedOf = (poll: ToldPoll) => NINE + 10_500_000n + BigInt(poll.after) * 1_000_000n;

/** The documents from outside the chain, in the order of loading, which is not that of capture. */
export const polledDocumentsOf = ({ polls }: LoggedScenario, table: string): string[] =>
  polls.map((poll, index) =>
    batch(
      `p${String(index)}`,
      iso(capturedOf(poll)),
      [
        {
          id: poll.key,
          ...(poll.operation === 'DELETE' ? {} : { a: poll.a, b: Number(poll.b), u: poll.u, w: Number(poll.w) }),
          operation_type: poll.operation,
          cdc_timestamp: stamp(capturedOf(poll)),
        },
      ],
      { table, columns: ['id', 'a', 'b', 'u', 'w', 'touched'] },
    ),
  );

/** The changes of one key, each with all its values, as the oracle wants them; without those of which history cannot know a value. */
function changesOf(scenario: LoggedScenario, id: number): OracleChange[] {
  const logged = batchesOf(scenario).flatMap((lines, index) =>
    lines.flatMap(({ key: one, row, captured, effective: stated }, line): OracleChange[] => {
      if ((one !== id && one !== 'all') || (row !== null && row.told.size < 2)) return [];
      return [
        {
          operation: row === null ? 'DELETE' : 'UPDATE',
          effective: stated ?? captured,
          captured,
          sequence: index + 1,
          batch: nameOf(index),
          line: line + 1,
          isLogged: true,
          tracked: row === null ? {} : { a: row.a, b: row.b },
          untracked: row === null ? {} : { u: row.u, w: row.w },
        },
      ];
    }),
  );
  const polled = scenario.polls.flatMap((poll, index): OracleChange[] =>
    poll.key !== id
      ? []
      : [
          {
            operation: poll.operation,
            effective: capturedOf(poll),
            captured: capturedOf(poll),
            sequence: null,
            batch: `p${String(index)}`,
            line: 1,
            tracked: { a: poll.a, b: poll.b },
            untracked: { u: poll.u, w: poll.w },
          },
        ],
  );
  return [...logged, ...polled];
}

/**
 * Lines told so that what a transaction that truncates did can be compared: which of its changes ended a version, if several could have,
 * and what else it deleted in vain, depends on which keys were in force when it truncated.
 */
function told(scenario: LoggedScenario, lines: readonly string[]): string[] {
  const batches = batchesOf(scenario);
  const truncated = new Set(batches.flat().flatMap(({ key: one, captured }) => (one === 'all' ? [captured] : [])));
  const names = new Set(batches.flatMap((batched, index) => (batched[0]?.key === 'all' ? [nameOf(index)] : [])));
  const places = new Set(
    batches.flatMap((batched, index) =>
      batched.flatMap(({ captured }, line) =>
        truncated.has(captured) ? [`${nameOf(index)}:${String(line + 1)}`] : [],
      ),
    ),
  );
  return lines
    .flatMap((line) => {
      const [kind, id, place = '', reason = '', ...rest] = line.split('|');
      if (kind !== 'absorbed' || !(places.has(place) || names.has(place.split(':')[0] ?? ''))) return [line];
      if (reason === 'unchanged') return [line];
      return reason === 'delete' ? [[kind, id, 'truncate', reason, ...rest].join('|')] : [];
    })
    .sort();
}

/** What the warehouse must hold, as expectedOf of ordinary scenarios has it. */
export const expectedOfLog = (
  scenario: LoggedScenario,
  isApplied: (change: OracleChange) => boolean = () => true,
): string[] =>
  told(
    scenario,
    [...Array(KEYS + 1).keys()].flatMap((id) => {
      const { versions, absorbed } = foldOf(changesOf(scenario, id).filter(isApplied), 'capture');
      return [
        ...versions.map(({ place, operation, from, to, tracked, untracked }) =>
          ['version', id, place, operation, from, to ?? '', tracked.a, tracked.b, untracked.u, untracked.w].join('|'),
        ),
        ...absorbed.map(({ place, reason, closedAt }) => ['absorbed', id, place, reason, closedAt ?? ''].join('|')),
      ];
    }),
  );

/** What the warehouse holds, told likewise. */
export const toldOfLog = told;
