import type { CommandModule } from 'yargs';
import { loadSettings } from '../base/settings.js';
import { examine, type Finding } from '../operate/doctor.js';
import { EXIT } from '../base/errors.js';

interface DoctorArguments {
  readonly json?: boolean | undefined;
}

const MARKS = { ok: 'ok     ', warning: 'warning', error: 'ERROR  ' } as const;

const line = ({ status, subject, message, remedy }: Finding) =>
  `${MARKS[status]}  ${subject}: ${message}${remedy === undefined ? '' : `\n         next: ${remedy}`}`;

export const doctorCommand: CommandModule<object, DoctorArguments> = {
  command: 'doctor',
  describe:
    'Look at the ground before a run: connections, rights, tables, clocks, disk; exits 1 if something must be mended',
  builder: { json: { type: 'boolean', describe: 'Print the findings as JSON' } },
  handler: async ({ json }) => {
    const findings = await examine(loadSettings());
    process.stdout.write(`${json === true ? JSON.stringify(findings) : findings.map(line).join('\n')}\n`);
    if (findings.some(({ status }) => status === 'error')) process.exitCode = EXIT.failed;
  },
};
