import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connect, type Database } from '../../runner/base/database.js';
import { loadTables } from '../../runner/load/tables.js';
import { captureTable } from '../../runner/operate/capture.js';
import { reconcileTables } from '../../runner/reconcile/tables.js';
import { awaitOpenTransactions } from '../../runner/source/server.js';
import { applySetup, setupStatements } from '../../runner/stream/setup.js';
import { slotOf } from '../../runner/stream/position.js';
import { dimensionMappings } from '../../runner/warehouse/functions.js';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { createSourceTable, registerDimension, type TestColumn } from '../support/dimensions.js';
import { stream } from '../support/log.js';
import { until } from '../support/wait.js';

/**
 * A transaction whose commit is in the log, and which nobody sees yet: its session waits for a synchronous standby. What goes by snapshots
 * does not have it, and what goes by places in the log has it behind it.
 */

const COLUMNS: readonly TestColumn[] = [
  { source: 'id', type: 'integer', role: 'business key' },
  { source: 'state', type: 'text', role: 'tracked' },
];

let pipeline: TestPipeline;
beforeEach(async () => {
  pipeline = await createPipeline();
  await createSourceTable(pipeline.source, 'things', COLUMNS);
  await pipeline.source`create table probe ()`;
  await registerDimension(pipeline.warehouse, 'things', 'things', COLUMNS);
  await pipeline.source`insert into things values (1, 'a'), (2, 'a')`;
});
afterEach(async () => {
  const { slot } = slotOf(pipeline.settings);
  await awaitStandby(false);
  await pipeline.source`select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = ${slot}`;
  await pipeline.drop();
});

/** Whether commits that ask for it wait for a standby, which does not exist. */
async function awaitStandby(isOn: boolean): Promise<void> {
  const { source } = pipeline;
  await source.unsafe(isOn ? 'alter system set synchronous_commit = local' : 'alter system reset synchronous_commit');
  await source.unsafe(
    isOn ? `alter system set synchronous_standby_names = 'nobody'` : 'alter system reset synchronous_standby_names',
  );
  await source`select pg_reload_conf()`;
}

const isHeld = async (source: Database) => {
  const [waits] =
    await source`select from pg_stat_activity where wait_event = 'SyncRep' and datname = current_database()`;
  return waits !== undefined;
};

/** Begins to commit a statement, until that waits. @returns lets the commit be seen */
async function holdCommit(statement: string): Promise<() => Promise<void>> {
  const session = connect(pipeline.admin.source, 'held');
  await awaitStandby(true);
  const commit = (what: string) => session.unsafe(`set synchronous_commit = on; ${what}`);
  // The server takes a moment to hear of its standby; a wait that is cancelled has committed.
  for (let holds = false; !holds; ) {
    const probe = commit('insert into probe default values').then(() => false);
    holds = await Promise.race([probe, until(() => isHeld(pipeline.source))]);
    await pipeline.source`select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'`;
    await probe;
  }
  const held = commit(statement);
  held.catch(() => undefined);
  await until(() => isHeld(pipeline.source));
  return async () => {
    await awaitStandby(false);
    await held;
    await session.end();
  };
}

/** Resolves when a session of Tidemark waits for transactions to end. */
const waiting = () =>
  until(async () => {
    const rows = await pipeline.source`
      select from pg_stat_activity where datname = current_database() and query like '-- Whom a hand-over to the log%'`;
    return rows.length > 0;
  });

const states = async (key: number) =>
  (
    await pipeline.warehouse<{ state: string }[]>`
      select state from dim_things_history where id = ${key} order by valid_from`
  ).map(({ state }) => state);

const load = () => loadTables({ settings: pipeline.settings, tables: [] });

describe('what was committed, and is not seen yet,', () => {
  it('is waited for where a table goes over to the log: each of its states is there once', async () => {
    const { settings, source, warehouse } = pipeline;
    // A slot that is made waits for it by itself.
    await applySetup(source, await setupStatements(source, settings, await dimensionMappings(warehouse)));
    const show = await holdCommit(`update things set state = 'held' where id = 1`);
    const handed = captureTable(settings, 'things', 'log');
    await Promise.race([waiting(), handed]);
    await show();
    await handed;
    await source`update things set state = 'b' where id = 1`;
    await stream(pipeline);
    await load();
    expect(await states(1)).toEqual(['a', 'held', 'b']);
  });

  it('is waited for, too, where none has ended since that began: a snapshot takes its number for that of the next one', async () => {
    const show = await holdCommit(`update things set state = 'held' where id = 1`);
    const waited = awaitOpenTransactions(pipeline.source, 'things').then(() => 'ended');
    expect(await Promise.race([waiting(), waited])).toBe(true);
    await show();
    await waited;
    expect(await pipeline.source`select state from things where id = 1`).toEqual([{ state: 'held' }]);
  });

  it('is waited for where history has it already, before a repair reads what the source has: no older state comes after it', async () => {
    const { settings } = pipeline;
    await captureTable(settings, 'things', 'log');
    const show = await holdCommit(`update things set state = 'held' where id = 1`);
    await stream(pipeline);
    await load();
    expect(await states(1)).toEqual(['a', 'held']);
    const repaired = reconcileTables({ settings, tables: ['things'], repair: true, allowDeletes: false });
    await Promise.race([waiting(), repaired]);
    await show();
    await repaired;
    await stream(pipeline);
    await load();
    expect(await states(1)).toEqual(['a', 'held']);
  });
});
