import { TidemarkError } from '../base/errors.js';

/** What "doctor" has found, and what to do about it. */

export interface Finding {
  readonly status: 'ok' | 'warning' | 'error';
  /** What was looked at: a database, a table, the change log. */
  readonly subject: string;
  readonly message: string;
  /** What to do; undefined where all is well. */
  readonly remedy?: string | undefined;
}

export const ok = (subject: string, message: string): Finding => ({ status: 'ok', subject, message });

export const failure = (subject: string, error: unknown): Finding => ({
  status: 'error',
  subject,
  message: error instanceof Error ? error.message : String(error),
  remedy: error instanceof TidemarkError ? error.hint : undefined,
});

type Note = (isSo: boolean, message: string, remedy: string) => void;

type Notes = Readonly<{ findings: Finding[]; warn: Note; fail: Note }>;

/** Collects what is found about a subject: a finding of either kind is noted if it is so. */
export function notesOn(subject: string): Notes {
  const findings: Finding[] = [];
  const noting =
    (status: Finding['status']): Note =>
    (isSo, message, remedy) => {
      if (isSo) findings.push({ status, subject, message, remedy });
    };
  return { findings, warn: noting('warning'), fail: noting('error') };
}
