/**
 * What a user is told when something cannot be done, and the exit code that goes with it.
 * Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 a check found violations (docs/errors.md).
 */
export const EXIT = { done: 0, failed: 1, usage: 2, violations: 3 } as const;

export interface ErrorParts {
  /** SQLSTATE or system error code, where there is one. */
  readonly code?: string | undefined;
  /** Where it happened: file, table, batch, row, column. */
  readonly detail?: string | undefined;
  /** What to do next. */
  readonly hint?: string | undefined;
  readonly cause?: unknown;
}

/** An error whose message is meant for the user as it stands. */
export class TidemarkError extends Error {
  readonly code: string | undefined;
  readonly detail: string | undefined;
  readonly hint: string | undefined;
  readonly exitCode: (typeof EXIT)[keyof typeof EXIT] = EXIT.failed;

  constructor(message: string, parts: ErrorParts = {}) {
    super(message, { cause: parts.cause });
    this.name = new.target.name;
    this.code = parts.code;
    this.detail = parts.detail;
    this.hint = parts.hint;
  }
}

/** Wrong command line or settings: exit code 2. */
export class UsageError extends TidemarkError {
  override readonly exitCode = EXIT.usage;
}

/** Another process is at work on the same table. */
export class HeldError extends TidemarkError {}

/** A table that somebody else has locked: the others can be seen to meanwhile. */
export class LockedError extends TidemarkError {}

/** What failed, and the table of it where it was one of several. */
export type Failure = Readonly<{ table?: string; error: unknown }>;

/** How a run over several tables came out in which one failed: what it has for a result all the same, and what failed. */
export type Outcome = Readonly<{ result: unknown; failures: readonly Failure[] }>;

const outcomes = new WeakMap<object, Outcome>();
const told = new WeakSet<object>();

/** Lets the outcome of a run travel with the error that ends it. */
export function withOutcome<E extends object>(error: E, outcome: Outcome): E {
  outcomes.set(error, outcome);
  return error;
}

export const outcomeOf = (error: unknown): Outcome | undefined => outcomes.get(error as object);

/** Says what a run over several tables came to, also where some failed: then with the error, which it throws on. */
export async function sayAll<R>(work: Promise<R>, say: (result: R, error?: unknown) => void): Promise<void> {
  say(
    await work.catch((error: unknown) => {
      const outcome = outcomeOf(error);
      if (outcome !== undefined) say(outcome.result as R, error);
      throw error;
    }),
  );
}

/** The document that --json prints of a run that failed: its result, where there is one all the same, and "errors". Asked for once, it is told. */
export function failureDocument(error: unknown, result?: unknown): object {
  if (error instanceof Error) told.add(error);
  const failures: readonly Failure[] = outcomeOf(error)?.failures ?? [{ error }];
  const errors = failures.map(({ table, error: each }) => {
    const { code, detail, hint } = each instanceof TidemarkError ? each : {};
    const message = each instanceof Error ? each.message : String(each);
    return { table: table ?? null, code: code ?? null, message, detail: detail ?? null, next_step: hint ?? null };
  });
  return { ...(Array.isArray(result) ? { results: result } : (result as object | undefined)), errors };
}

export const isTold = (error: unknown): boolean => told.has(error as object);

/** True for an error that carries a system or SQLSTATE code equal to one of those given. */
export function hasCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code));
}

/** True for a data exception of the server (class 22): a text is no value of its type. */
export const isDataFault = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && String(error.code).startsWith('22');

/** For what may be gone already, because somebody else moved or removed it. */
export function tolerateGone(error: unknown): undefined {
  if (!hasCode(error, 'ENOENT')) throw error;
  return undefined;
}

/** Waits until all have ended, well or not. @throws what the first of them threw */
export async function allDone(work: readonly Promise<unknown>[]): Promise<void> {
  for (const ended of await Promise.allSettled(work)) if (ended.status === 'rejected') throw ended.reason;
}

/** The lines below the message of an error: where it happened, and what to do next. */
export const whereAndNext = ({ detail, hint }: TidemarkError): string[] => [
  ...(detail === undefined ? [] : [`  where: ${detail}`]),
  ...(hint === undefined ? [] : [`  next:  ${hint}`]),
];

/** The lines printed for an error: what happened, where, what to do next; the stack only on request. */
export function describeError(error: unknown, withStack: boolean): string {
  if (!(error instanceof Error)) return String(error);
  const known = error instanceof TidemarkError ? error : undefined;
  const code = known?.code === undefined ? '' : `${known.code} `;
  const lines = [`error: ${code}${error.message}`];
  if (known !== undefined) lines.push(...whereAndNext(known));
  if (withStack) lines.push(error.stack ?? '');
  if (withStack && error.cause instanceof Error) lines.push(`caused by: ${error.cause.stack ?? error.cause.message}`);
  return lines.join('\n');
}

/** Writes to stderr, whatever becomes of it: a full disk or a reader that is gone must not end what only wants to speak. */
export function sayToStderr(text: string): void {
  try {
    process.stderr.write(text);
  } catch {
    // Nobody is there to be told.
  }
}
