import { afterAll, beforeAll, expect, it } from 'vitest';
import { inTransaction } from '../../runner/base/transaction.js';
import { makeRoles } from '../../runner/operate/grants.js';
import { apply } from '../support/batches.js';
import { runCli } from '../support/cli.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { registerDimension } from '../support/dimensions.js';
import { WITH_ROLES } from '../support/roles.js';

let pipeline: TestPipeline;
beforeAll(async () => {
  pipeline = await createPipeline();
});
afterAll(async () => {
  await pipeline.drop();
});

const as = async (role: string, statement: string) =>
  inTransaction(pipeline.warehouse, '', async (transaction) => {
    await transaction.unsafe(`set local role ${role}`);
    return [...(await transaction.unsafe(statement))];
  });

it.skipIf(WITH_ROLES)(
  'the demo makes who reads for the console and who acts, for what is registered later, too',
  async () => {
    const { code, stdout, stderr } = await runCli(['demo'], pipeline.env);
    expect(code, stderr).toBe(0);
    expect(stdout).toContain('tidemark_analyst may read it, tidemark_loader may work on it');
    expect(await pipeline.warehouse`select tidemark.reading_role(), tidemark.acting_role()`).toEqual([
      { reading_role: 'tidemark_analyst', acting_role: 'tidemark_loader' },
    ]);
    await registerDimension(pipeline.warehouse, 'later', 'later', [
      { source: 'id', type: 'integer', role: 'business key' },
      { source: 'v', type: 'text', role: 'tracked' },
      { source: 'at', type: 'timestamptz', role: 'effective time' },
    ]);
    const later = `{"batch_metadata": {"batch_id": "b", "table": "later", "extracted_at": "2026-02-01T10:00:00Z", "change_count": 1}, "changes": [
    {"id": 1, "v": "a", "at": "2026-02-01T09:00:00Z", "operation_type": "INSERT", "cdc_timestamp": "2026-02-01T09:00:00Z", "extracted_at": "2026-02-01T10:00:00Z"}]}`;
    expect(await apply(pipeline.warehouse, later)).toMatchObject({ inserted_versions: '1' });
    expect(await as('tidemark_analyst', 'select v from public.dim_later_history')).toEqual([{ v: 'a' }]);
    for (const statement of [
      'delete from public.dim_later_history',
      "select tidemark.pause_dimension('later', true)",
      "select * from tidemark.apply_batch('{}')",
      'select * from tidemark.forgetting_secret',
    ])
      await expect(as('tidemark_analyst', statement), statement).rejects.toMatchObject({ code: '42501' });
  },
);

it.skipIf(WITH_ROLES)('who may not make roles is told so, and nothing is changed', async () => {
  await pipeline.warehouse.unsafe(`
    create role demo_plain login password 'plain'; alter schema tidemark owner to demo_plain`);
  const { warehouse } = pipeline.settings;
  await expect(makeRoles({ ...warehouse, user: 'demo_plain', password: 'plain' })).rejects.toMatchObject({
    code: '42501',
  });
  await pipeline.warehouse.unsafe('alter schema tidemark owner to current_user; drop role demo_plain');
});
