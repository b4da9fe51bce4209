import { EXIT } from '../base/errors.js';
import { examine } from '../operate/doctor.js';
import type { Finding } from '../operate/finding.js';
import { defineAnswer } from './command.js';

const MARKS = { ok: 'ok     ', warning: 'warning', error: 'ERROR  ' } as const;

/** A finding in words, and what to do. */
export const lineOfFinding = ({ status, subject, message, remedy }: Finding): string =>
  `${MARKS[status]}  ${subject}: ${message}${remedy === undefined ? '' : `\n         next: ${remedy}`}`;

export const command = defineAnswer({}, async (_, settings) => {
  const findings = await examine(settings);
  if (findings.some(({ status }) => status === 'error')) process.exitCode = EXIT.failed;
  return [findings, findings.map(lineOfFinding).join('\n')];
});
