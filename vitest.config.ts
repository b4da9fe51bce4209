import { defineConfig } from 'vitest/config';

const files = (...names: string[]) => names.map((name) => `test/${name}.test.ts`);

/** Tests that count what a poll reads: a transaction of any other database of the server, ending meanwhile, makes it read more. */
const COUNTING = files('add', 'backfill', 'batch-size', 'drift', 'extract', 'fallback', 'faults', 'load', 'load-parallel', 'memory', 'reconcile', 'replay', 'run', 'shards', 'soft-deletes', 'source', 'sweep', 'tables', 'watermark');

/** What does not depend on the version that is tested need not run for each; EVERY_TEST=1 runs it all the same. */
const ONCE = process.env.TEST_POSTGRES_VERSION === '15' && process.env.EVERY_TEST !== '1'
  ? files(
    'embedded-servers', 'services', 'rapid-updates', 'restart', 'server-restart', 'reconcile-large', 'soak', 'crash', 'faults', 'cli', 'makefile', 'report', 'run', 'log-file',
    'tls', 'deploy', 'serve', 'simulate', 'disk-full', 'style', 'plpgsql-check', 'safe-folder', 'least-privilege', 'bench', 'load-parallel', 'database', 'batch-size', 'soft-deletes', 'watermark',
    'shards', 'replay', 'backup', 'prune', 'alerts', 'change-log', 'change-log-archive', 'config', 'memory', 'hazards', 'shard',
  )
  : [];

/** On a server that was given, those that count run one after the other at the end; else each file has a server of its own. */
const isGiven = [process.env.TEST_DATABASE_URL, process.env.TEST_POSTGRES_IMAGE].some((value) => value !== undefined && value !== '');
const counting = isGiven
  ? { fileParallelism: false, sequence: { groupOrder: 1 } }
  : { setupFiles: ['test/support/own-server.ts'], sequence: { groupOrder: 0 } };

const common = { testTimeout: 300_000, hookTimeout: 300_000 };

export default defineConfig({
  test: {
    globalSetup: ['test/support/global-setup.ts'],
    maxWorkers: 2,
    projects: [
      { extends: true, test: { ...common, name: 'together', include: ['test/**/*.test.ts'], exclude: [...COUNTING, ...ONCE], sequence: { groupOrder: 0 } } },
      { extends: true, test: { ...common, name: 'counting', include: COUNTING.filter((file) => !ONCE.includes(file)), ...counting } },
    ],
  },
});
