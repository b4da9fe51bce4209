import { defineConfig } from 'vitest/config';

const files = (...names: string[]) => names.map((name) => `test/${name}.test.ts`);

/** Tests that count what a poll reads: a transaction of any other database of the server, ending meanwhile, makes it read more. */
const COUNTING = files(
  'registration/propose',
  'extract/backfill',
  'extract/batch-size',
  'registration/follow',
  'extract/table',
  'extract/fallback',
  'pipeline/faults',
  'load/chain',
  'load/parallel',
  'extract/known-rows',
  'reconcile/tables',
  'load/replay',
  'services/run',
  'extract/shards',
  'extract/soft-deletes',
  'source/table',
  'extract/sweep',
  'registration/registered',
  'operate/watermark',
);

/** What does not depend on the version that is tested need not run for each; EVERY_TEST=1 runs it all the same. */
const ONCE =
  process.env.TEST_POSTGRES_VERSION === '15' && process.env.EVERY_TEST !== '1'
    ? files(
        'embedded/servers',
        'services/background',
        'pipeline/rapid-updates',
        'services/restart',
        'pipeline/server-restart',
        'reconcile/large',
        'pipeline/soak',
        'pipeline/crash',
        'pipeline/faults',
        'cli',
        'house/makefile',
        'operate/report',
        'services/run',
        'services/logs',
        'base/tls',
        'house/deploy',
        'operate/serve',
        'demo/simulate',
        'pipeline/disk-full',
        'house/style',
        'house/plpgsql-check',
        'base/safe-folder',
        'pipeline/least-privilege',
        'house/bench',
        'load/parallel',
        'base/database',
        'extract/batch-size',
        'extract/soft-deletes',
        'operate/watermark',
        'extract/shards',
        'load/replay',
        'pipeline/backup',
        'operate/prune',
        'operate/alerts',
        'change-log/chain',
        'change-log/applied',
        'base/settings',
        'extract/known-rows',
        'pipeline/hazards',
        'batch/shard',
      )
    : [];

/** On a server that was given, those that count run one after the other at the end; else each file has a server of its own. */
const isGiven = [process.env.TEST_DATABASE_URL, process.env.TEST_POSTGRES_IMAGE].some(
  (value) => value !== undefined && value !== '',
);
const counting = isGiven
  ? { fileParallelism: false, sequence: { groupOrder: 1 } }
  : { setupFiles: ['test/support/own-server.ts'], sequence: { groupOrder: 0 } };

const common = { testTimeout: 300_000, hookTimeout: 300_000 };

export default defineConfig({
  test: {
    globalSetup: ['test/support/global-setup.ts'],
    maxWorkers: 2,
    projects: [
      {
        extends: true,
        test: {
          ...common,
          name: 'together',
          include: ['test/**/*.test.ts'],
          exclude: [...COUNTING, ...ONCE],
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: { ...common, name: 'counting', include: COUNTING.filter((file) => !ONCE.includes(file)), ...counting },
      },
    ],
  },
});
