import path from 'node:path';
import { defineConfig } from 'vitest/config';

/** npm run test:mutation: apart from the test suite, because it takes minutes. */
export default defineConfig({
  root: path.join(import.meta.dirname, '..', '..'),
  test: {
    globalSetup: ['test/support/global-setup.ts'],
    include: ['test/mutation/*.mutation.ts'],
    testTimeout: 1_800_000,
    hookTimeout: 300_000,
    fileParallelism: false,
  },
});
