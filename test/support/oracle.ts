/**
 * What history must be, read off the rules in docs/architecture.md and not off the SQL: a plain fold of all changes of one key.
 * Times are microseconds since 1970; the two infinities are themselves. A column that a change does not have is absent.
 */

export type Instant = bigint | 'infinity' | '-infinity';
export type ChangeOrder = 'capture' | 'effective_time';
export type Values = Readonly<Record<string, string | null>>;

export interface OracleChange {
  readonly operation: 'INSERT' | 'UPDATE' | 'DELETE';
  /** Null where it has none. */
  readonly effective: Instant | null;
  /** Its own capture time, or that of its batch. */
  readonly captured: bigint;
  /** Of its batch: what decides between changes captured at one instant. */
  readonly sequence: number | null;
  readonly batch: string;
  readonly line: number;
  /** Read from the log: changes of one capture time are of one transaction. */
  readonly isLogged?: boolean;
  readonly tracked: Values;
  readonly untracked: Values;
}

export interface OracleVersion {
  readonly place: string;
  readonly operation: 'INSERT' | 'UPDATE';
  readonly from: bigint;
  to: bigint | null;
  tracked: Values;
  untracked: Values;
}

export interface OracleAbsorbed {
  readonly place: string;
  readonly reason: 'unchanged' | 'delete' | 'nothing to delete' | 'superseded';
  readonly closedAt: bigint | null;
}

export interface OracleHistory {
  readonly versions: readonly OracleVersion[];
  readonly absorbed: readonly OracleAbsorbed[];
}

const placeOf = (change: OracleChange) => `${change.batch}:${String(change.line)}`;
const later = (a: bigint, b: bigint) => (a > b ? a : b);
const compare = <T>(a: T, b: T) => (a < b ? -1 : a > b ? 1 : 0);

/** Capture order: its own capture time, then sequence (a document without one comes after those of the chain), then its name, then the line. */
export function compareCapture(a: OracleChange, b: OracleChange): number {
  return (
    compare(a.captured, b.captured) ||
    compare(a.sequence ?? Number.POSITIVE_INFINITY, b.sequence ?? Number.POSITIVE_INFINITY) ||
    compare(a.batch, b.batch) ||
    a.line - b.line
  );
}

/** An effective time can be right if it is finite and not after its capture; one that cannot gives way to the capture. */
const canBeRight = (change: OracleChange): change is OracleChange & { effective: bigint } =>
  typeof change.effective === 'bigint' && change.effective <= change.captured;
const ownTime = (change: OracleChange) => (canBeRight(change) ? change.effective : change.captured);

/** Tracked columns that both sides have are equal. */
const equals = (version: Values, change: Values) =>
  Object.keys(change).every((name) => !(name in version) || version[name] === change[name]);

/** Of changes of one time the last counts: of one effective time where that is their order, else of one transaction in the log. */
const isAtOnce = (change: OracleChange, next: OracleChange, order: ChangeOrder) =>
  order === 'effective_time'
    ? ownTime(next) === ownTime(change)
    : change.isLogged === true && next.isLogged === true && next.captured === change.captured;

export function foldOf(changes: readonly OracleChange[], order: ChangeOrder): OracleHistory {
  const absorbed: OracleAbsorbed[] = [];
  const versions: OracleVersion[] = [];
  let sorted = [...changes].sort(compareCapture);
  if (order === 'effective_time')
    sorted = sorted.sort((a, b) => compare(ownTime(a), ownTime(b)) || compareCapture(a, b));
  sorted = sorted.filter((change, index, all) => {
    const next = all[index + 1];
    const isLast = next === undefined || !isAtOnce(change, next, order);
    if (!isLast) absorbed.push({ place: placeOf(change), reason: 'superseded', closedAt: null });
    return isLast;
  });
  for (const change of sorted) step(change, versions, absorbed);
  return { versions, absorbed: absorbed.sort((a, b) => compare(a.place, b.place)) };
}

function step(change: OracleChange, versions: OracleVersion[], absorbed: OracleAbsorbed[]): void {
  const place = placeOf(change);
  const last = versions.at(-1);
  const inForce = last?.to === null ? last : undefined;
  if (inForce !== undefined && change.operation !== 'DELETE' && equals(inForce.tracked, change.tracked)) {
    inForce.tracked = { ...change.tracked, ...inForce.tracked };
    inForce.untracked = { ...inForce.untracked, ...change.untracked };
    absorbed.push({ place, reason: 'unchanged', closedAt: null });
    return;
  }
  if (inForce === undefined && change.operation === 'DELETE') {
    absorbed.push({ place, reason: 'nothing to delete', closedAt: null });
    return;
  }
  const time = inForce === undefined ? beginning(change, last?.to ?? null) : takingOver(change, inForce.from);
  if (inForce !== undefined) inForce.to = time;
  if (change.operation === 'DELETE') absorbed.push({ place, reason: 'delete', closedAt: time });
  else
    versions.push({
      place,
      operation: inForce === undefined ? 'INSERT' : 'UPDATE',
      from: time,
      to: null,
      tracked: change.tracked,
      untracked: change.untracked,
    });
}

/** When a change takes over from a version in force that began at `from`. */
const takingOver = (change: OracleChange, from: bigint) =>
  canBeRight(change) && change.effective > from ? change.effective : later(change.captured, from + 1n);

/** When a life begins, given the end of the one before it. */
function beginning(change: OracleChange, end: bigint | null): bigint {
  if (canBeRight(change) && (end === null || change.effective >= end)) return change.effective;
  return end === null ? change.captured : later(change.captured, end);
}
