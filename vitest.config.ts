import { readdirSync, readFileSync } from 'node:fs';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const isSet = (name: string): boolean => (process.env[name] ?? '') !== '';

/** TEST_POSTGRES_VERSION: the versions to test on, 18 unless said; "18,15" both in one run. A server that was given is of its own version. */
const VERSIONS = (process.env.TEST_POSTGRES_VERSION ?? '18').split(',');
const IS_ONE = isSet('TEST_DATABASE_URL') || isSet('TEST_CITUS_URL') || isSet('TEST_CITUS_IMAGE');
const IS_GIVEN = IS_ONE || isSet('TEST_POSTGRES_IMAGE');

/** Where a version of PostgreSQL may change what comes out: SQL, catalogs and the log. Elsewhere files run on 18 alone. */
const OF_VERSIONS = /^test\/(checks|functions|source|stream|warehouse)\//;

/** The first line of a file may say otherwise; EVERY_TEST=1 runs all. */
const RUNS_ONCE = readdirSync('test', { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.test.ts'))
  .map((name) => `test/${name}`)
  .filter((file) => {
    const said = readFileSync(file, 'utf8');
    return said.startsWith('// Runs once') || !(OF_VERSIONS.test(file) || said.startsWith('// Runs on each version'));
  });

const LONGEST =
  /\/(adoption|background|capture|crash|docs|follow|history\.property|reconcile\/tables|replay|servers|shards|soft-deletes|widened-columns)\.test\.ts$/;

/** What takes longest begins first, so that the run does not end with one worker at work. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const isLong = ({ moduleId }: TestSpecification) => LONGEST.test(moduleId);
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}

/** Each worker has a server to itself. What is set up for all is set up once: a project that extended this would do it again. */
export default defineConfig({
  test: {
    globalSetup: ['test/support/global-setup.ts'],
    // Many tests wait, for a round of a service or for a command: a third worker uses the time.
    maxWorkers: IS_ONE ? 1 : 3,
    reporters: ['./test/support/progress.ts'],
    slowTestThreshold: 10_000,
    // A worker loads what files share once, not for each of them. No test leaves anything behind in its process.
    isolate: false,
    sequence: { sequencer: LongestFirst },
    projects: VERSIONS.map((version) => ({
      test: {
        name: IS_GIVEN ? 'given' : version,
        include: ['test/**/*.test.ts'],
        exclude: version === '18' || IS_GIVEN || isSet('EVERY_TEST') ? [] : RUNS_ONCE,
        setupFiles: ['test/support/in-run-folder.ts'],
        env: { TEST_POSTGRES_VERSION: version },
        testTimeout: 300_000,
        hookTimeout: 300_000,
      },
    })),
  },
});
