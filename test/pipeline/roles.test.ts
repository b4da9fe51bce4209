// Runs on each version: what a role inherits is not the same on each.
import { describe, expect, test } from 'vitest';
import { withDatabase } from '../../runner/base/database.js';
import { createPipeline } from '../support/databases.js';
import { ROLES, WITH_ROLES } from '../support/roles.js';

/** Whether the run is what TEST_ROLES=1 says, or the files that pass with it would show nothing. */
describe.skipIf(!WITH_ROLES)('with TEST_ROLES=1', () => {
  test.each(['source', 'warehouse'] as const)(
    'the %s is used by its role, which is no superuser, over an encrypted session',
    async (end) => {
      const pipeline = await createPipeline();
      const [row] = await withDatabase(pipeline.settings[end], 'test', (sql) =>
        sql`
      select current_user as role, current_setting('is_superuser') as is_superuser, s.ssl from pg_stat_ssl as s where s.pid = pg_backend_pid()`.execute(),
      );
      expect([pipeline.settings[end].sslmode, row]).toEqual([
        'verify-full',
        { role: ROLES[end], is_superuser: 'off', ssl: true },
      ]);
      await pipeline.drop();
    },
  );
});
