// Runs on each version: what is known of a slot is not the same on each.
import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { examine } from '../../runner/operate/doctor.js';
import { holdSlot, slotOf } from '../../runner/stream/position.js';
import { beginEach, type TestPipeline } from '../support/databases.js';
import { createSourceTable, registerDimension, type TestColumn } from '../support/dimensions.js';
import { captureFromLog, stream } from '../support/log.js';

const COLUMNS: readonly TestColumn[] = [
  { source: 'id', type: 'integer', role: 'business key' },
  { source: 'state', type: 'text', role: 'tracked' },
];

let pipeline: TestPipeline;
let slot: string;
let publication: string;
beginEach(
  (begun) => {
    pipeline = begun;
  },
  async () => {
    await createSourceTable(pipeline.source, 'things', COLUMNS);
    await registerDimension(pipeline.warehouse, 'things', 'things', COLUMNS);
  },
);
beforeEach(async () => {
  await captureFromLog(pipeline, 'things');
  ({ slot, publication } = slotOf(pipeline.settings));
});
afterEach(async () => {
  await reset('max_slot_wal_keep_size');
});

const text = (part: string) => expect.stringContaining(part) as string;
const source = (statement: string) => pipeline.source.unsafe(statement);
/** No other file uses the server of this one meanwhile. */
const set = async (name: string, value: string) => {
  await source(`alter system set ${name} = '${value}'`);
  await source('select pg_reload_conf()');
};
const reset = async (name: string) => {
  await source(`alter system reset ${name}`);
  await source('select pg_reload_conf()');
};
const found = (overrides: Partial<TestPipeline['settings']> = {}) => examine({ ...pipeline.settings, ...overrides });
/** What is found of the log and of the table, and what is to be done. */
const bad = async (overrides: Partial<TestPipeline['settings']> = {}) =>
  (await found(overrides))
    .filter(({ status, subject }) => status !== 'ok' && ['log', 'table things'].includes(subject))
    .map(({ status, subject, message, remedy }) => [status, subject, message, remedy]);
const dropSlot = () => source(`select pg_drop_replication_slot('${slot}')`);

describe('doctor, where a table is captured from the log', () => {
  it('finds nothing to mend where all is well, but a hand-over that was killed, and says how far each table was read', async () => {
    await set('max_slot_wal_keep_size', '1GB');
    await source(`insert into things values (1, 'one')`);
    await stream(pipeline);
    const release = await holdSlot(pipeline.settings.cdc_log_dir, slot, 'things');
    expect(await bad()).toEqual([
      ['warning', 'log', text('while a table is handed over: things'), text('npx tidemark table capture things log')],
    ]);
    await release();
    const findings = await found();
    expect(findings.filter(({ status }) => status !== 'ok')).toEqual([]);
    expect(findings.filter(({ subject }) => ['log', 'table things'].includes(subject))).toMatchObject([
      { subject: 'log', message: text(`slot ${slot} serves, `) },
      { subject: 'table things', message: text('it is read from the log, up to ') },
    ]);
  });

  it('warns where nothing limits what the source keeps, and where a slot has used half of what it may', async () => {
    expect(await bad()).toEqual([
      ['warning', 'log', text('nothing limits how much log the source keeps'), text('alter system set max_slot_wal_')],
    ]);
    await set('max_slot_wal_keep_size', '64MB');
    await source(`select pg_logical_emit_message(false, '', repeat('x', 1000000)) from generate_series(1, 50)`);
    expect(await bad()).toEqual([
      ['warning', 'log', text(`slot ${slot} may be lost: `), text('no reader is at work: npx tidemark start')],
    ]);
  });

  it('finds a role that may not read the log, by a session of replication that it opens', async () => {
    const role = `reader_${randomBytes(4).toString('hex')}`;
    await source(`create role ${role} login password 'x'; grant pg_read_all_data, pg_read_all_stats to ${role}`);
    const end = { ...pipeline.settings.source, user: role, password: 'x' };
    const refused = ['error', 'log', 'the source does not let this user read its log', text('alter role')];
    expect(await bad({ source: end })).toContainEqual(refused);
    await source(`alter role ${role} replication`);
    expect(await bad({ source: end })).not.toContainEqual(refused);
    await source(`drop role ${role}`);
  });

  it('finds that no slot is left, and that a slot is not there, or not one that a reader can use', async () => {
    await set('max_slot_wal_keep_size', '1GB');
    await dropSlot();
    expect(await bad()).toContainEqual([
      'error',
      'log',
      `the source has no replication slot ${slot}`,
      text('npx tidemark table capture <name> log'),
    ]);
    const [most] = await pipeline.source<
      { n: number }[]
    >`select current_setting('max_replication_slots')::integer as n`;
    for (let index = 0; index < (most?.n ?? 0); index += 1)
      await source(`select pg_create_physical_replication_slot('filler_${String(index)}')`);
    expect(await bad()).toContainEqual([
      'error',
      'log',
      `the source has no replication slot ${slot}, and none is free: max_replication_slots is ${String(most?.n)}`,
      text('raise max_replication_slots'),
    ]);
    await source(`select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name like 'filler%'`);
    await source(`select pg_create_logical_replication_slot('${slot}', 'pgoutput', false, true)`);
    expect(await bad()).toContainEqual([
      'error',
      'log',
      text(`the replication slot ${slot} is not one that Tidemark reads: plugin pgoutput, database`),
      text('set STREAM_SLOT to another name'),
    ]);
    await dropSlot();
  });

  it('finds a slot that is lost', async () => {
    await set('max_slot_wal_keep_size', '1MB');
    for (let round = 0; round < 3; round += 1) {
      await source(`select pg_logical_emit_message(false, '', repeat('x', 1000000)) from generate_series(1, 20)`);
      await source('select pg_switch_wal()');
      await source('checkpoint');
    }
    const remedy = text('npx tidemark table capture');
    expect(await bad()).toEqual([
      ['error', 'log', text(`the replication slot ${slot} is lost`), remedy],
      ['error', 'table things', text('nothing of it is read from '), remedy],
    ]);
  });

  it('finds what was altered by hand in the publication: gone, of its own names, of some kinds, of some rows, of a table too many', async () => {
    await set('max_slot_wal_keep_size', '1GB');
    await source(`alter publication ${publication} set (publish_via_partition_root = false, publish = 'insert')`);
    await source('create table strange (id integer primary key)');
    await source(`alter publication ${publication} set table only things where (id > 1), only strange`);
    expect(await bad()).toEqual([
      ['error', 'log', text('sends partitions by their own names'), text('set (publish_via_partition_root = true)')],
      ['warning', 'log', text('are not captured from the log: "public"."strange"'), text('drop table <table>')],
      [
        'error',
        'table things',
        text('the publication sends some kinds of changes, rows or columns of things only'),
        text('npx tidemark table capture things log'),
      ],
    ]);
    await source(`drop publication ${publication}`);
    expect(await bad()).toEqual([
      ['error', 'log', `the source has no publication ${publication}`, text('npx tidemark stream setup --apply')],
    ]);
  });

  it('finds a table without replica identity, one that is not published, one that a reader has stopped, and one that was never handed over', async () => {
    await set('max_slot_wal_keep_size', '1GB');
    await source('alter table things replica identity nothing');
    const remedy = text('hand it over: npx tidemark table capture things log');
    expect(await bad()).toEqual([
      ['error', 'table things', text('has no replica identity'), text('alter table things replica identity full')],
    ]);
    await source('alter table things replica identity default');
    await source(`alter publication ${publication} drop table things`);
    const gone = ['error', 'table things', text('things is not in the publication any more'), remedy];
    expect(await bad()).toEqual([gone]);
    await stream(pipeline);
    await source(`alter publication ${publication} add table only things`);
    expect(await bad()).toEqual([gone]);
    await registerDimension(pipeline.warehouse, 'others', 'others', COLUMNS);
    await createSourceTable(pipeline.source, 'others', COLUMNS);
    await pipeline.warehouse`select tidemark.declare_capture(p_dimension_name => 'others', p_capture => 'log')`;
    expect(
      (await found()).filter(({ subject, status }) => subject === 'table others' && status !== 'ok'),
    ).toMatchObject([{ message: 'others was never handed over to the log' }]);
  });

  it('finds a slot that was moved on past what was read of a table', async () => {
    await set('max_slot_wal_keep_size', '1GB');
    await stream(pipeline);
    await source(`insert into things values (1, 'one')`);
    await source(`select pg_replication_slot_advance('${slot}', pg_current_wal_lsn())`);
    expect(await bad()).toEqual([
      ['error', 'table things', text('are not in the log any more'), text('npx tidemark table capture things log')],
    ]);
  });
});
