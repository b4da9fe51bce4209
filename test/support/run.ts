import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** A machine that is short of time meets races that a quiet one does not; more failing files than this are no accident. */
const MOST_FILES = 3;

const VITEST = path.join(path.dirname(createRequire(import.meta.url).resolve('vitest/package.json')), 'vitest.mjs');

let running: ChildProcess | undefined;
let interrupted: NodeJS.Signals | undefined;

// At the terminal vitest gets the signal too. It ends what the run has started, also when it sees that this process was killed.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => {
    interrupted = signal;
    running?.kill('SIGTERM');
  });

/** Runs vitest as "vitest run ..." does. Returns the files that failed; undefined where it did not come to a report. */
async function runVitest(
  args: readonly string[],
  folder: string,
): Promise<{ status: number; failed: readonly string[] | undefined }> {
  const report = path.join(folder, 'report.json');
  rmSync(report, { force: true });
  running = spawn(process.execPath, [VITEST, 'run', ...args], {
    env: { ...process.env, TEST_REPORT: report },
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
  });
  const [code] = (await once(running, 'exit')) as [number | null];
  const failed = existsSync(report) ? (JSON.parse(readFileSync(report, 'utf8')) as string[]) : undefined;
  return { status: code ?? 1, failed };
}

/** The suite; files that fail run once more by themselves, and those that pass then are named at the end: each is a fault to find. */
async function main(): Promise<number> {
  const folder = mkdtempSync(path.join(tmpdir(), 'tidemark-report-'));
  try {
    const { status, failed } = await runVitest(process.argv.slice(2), folder);
    if (interrupted !== undefined) return 1;
    if (status === 0 || failed === undefined || failed.length === 0 || failed.length > MOST_FILES) return status;
    process.stderr.write(
      `\n${String(failed.length)} of the test files failed: running again, by themselves: ${failed.join(', ')}\n\n`,
    );
    const again = await runVitest(failed, folder);
    if (again.status === 0)
      process.stderr.write(
        `\nPASSED ONLY WHEN RUN AGAIN: ${failed.join(', ')}\nWhat they failed of is printed above. A test whose result depends on timing is a fault, in it or in Tidemark: please report it.\n`,
      );
    return again.status;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

process.exitCode = await main();
