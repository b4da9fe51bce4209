// Runs on each version: how quick PostgreSQL is differs.
import { writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { GUARD_FILE, committedRatios, guardRatios, slower } from '../../bench/guard.js';
import { TELLS_PROCESSOR_TIME } from '../../bench/processor.js';
import { PREPARE, type Ends } from '../../bench/server.js';
import { connect } from '../../runner/base/database.js';
import { createSourceDatabase, createWarehouseDatabase } from '../support/databases.js';
import { testedVersion } from '../support/servers.js';

const committed = committedRatios();
const mine = committed[testedVersion()] ?? {};

let ends: Ends;
let end: () => Promise<void>;
beforeAll(async () => {
  const [source, warehouse] = [await createSourceDatabase(), await createWarehouseDatabase()];
  ends = {
    source: connect(source.settings, 'bench guard', 1),
    warehouse: connect(warehouse.settings, 'bench guard', 1),
  };
  await ends.warehouse.file(PREPARE).simple();
  end = async () => {
    await Promise.all([ends.source.end(), ends.warehouse.end()]);
    await Promise.all([source.drop(), warehouse.drop()]);
  };
});
afterAll(() => end());

test('a loss of a third is one, and less is none', () => {
  expect(slower({ one: 1.3, other: 1.4 }, { one: 1, other: 1 })).toEqual(['other: 1.40, and 1.00 is committed']);
  expect(slower({}, { gone: 1 })).toHaveLength(1);
});

/** Only Linux tells the processor time of another process, and only of one of this machine. */
const IS_GIVEN = [process.env.TEST_DATABASE_URL, process.env.TEST_POSTGRES_IMAGE].some((given) => (given ?? '') !== '');
const IS_BLIND = !TELLS_PROCESSOR_TIME || IS_GIVEN;
if (IS_BLIND)
  process.stderr.write(
    `\nSKIPPED: nothing tells the processor time of the server here, so what became slower is not seen\n\n`,
  );

test.skipIf(IS_BLIND)('nothing costs a third more than what is committed for this version', async () => {
  const isAccepted = process.env.ACCEPT_GUARD === '1';
  // What nothing fulfils is measured as long as anything is.
  const found = await guardRatios(ends, isAccepted ? { nothing: 0 } : mine);
  if (isAccepted) {
    const all = { ...committedRatios(), [testedVersion()]: found };
    await writeFile(GUARD_FILE, `${JSON.stringify(all, null, 2)}\n`);
    return;
  }
  expect(slower(found, mine)).toEqual([]);
});

test.skipIf(IS_BLIND)('what takes more time for each change is seen', async () => {
  await ends.warehouse.unsafe(`
    create function bench.waste_time() returns trigger language plpgsql as $$
    begin
      for i in 1..10 loop perform row_to_json(new)::text; end loop;
      return new;
    end $$;
    create trigger waste_time before insert on public.dim_orders_history
    for each row when (new.batch_id !~ '^changes_') execute function bench.waste_time()`);
  const found = await guardRatios(ends, mine, 8);
  expect(slower(found, mine).map((line) => line.split(':')[0])).toEqual(
    expect.arrayContaining(['INSERT changes', 'UPDATE changes', 'late changes']),
  );
});
