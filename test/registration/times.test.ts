// Runs once: what a version of PostgreSQL may change of it is tested elsewhere.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createPipeline, type TestPipeline } from '../support/databases.js';
import { loadAll, sourceAndHistory } from '../support/timeless.js';
import { propose, register, withDimensionsFolder } from '../support/registered.js';
import type { Settings } from '../../runner/base/settings.js';

/** Which columns "add" takes for the times of a table, whatever it calls them. */
let pipeline: TestPipeline;
let settings: Settings;
beforeEach(async () => {
  pipeline = await createPipeline();
  settings = await withDimensionsFolder(pipeline);
});
afterEach(async () => {
  await pipeline.drop();
});

/** What add takes for the effective time of a table of these columns, and what it says of it. */
async function planned(columns: string): Promise<{ effective: string; remarks: string }> {
  await pipeline.source.unsafe(`drop table if exists t; create table t (id integer primary key, v text, ${columns})`);
  const { registration } = await propose(settings, 't');
  return { effective: registration.effective_time, remarks: registration.remarks.join('\n') };
}

describe('the effective time', () => {
  it('is known by its name, in whatever letters it is written, and nothing is said of it', async () => {
    for (const name of [
      ...['last_updated', 'updated_at', 'last_update', 'last_modified', 'last_modified_at', 'modified', 'modified_at'],
      ...[
        'changed_at',
        'update_time',
        '"updatedAt"',
        '"UpdatedAt"',
        '"modifiedDate"',
        'modifieddate',
        '"ModifiedDate"',
      ],
      ...[
        'updated_on',
        'date_modified',
        'row_updated_at',
        '"lastModifiedDate"',
        'last_changed',
        'write_date',
        'edited',
      ],
    ])
      expect([name, await planned(`${name} timestamp not null`)]).toEqual([
        name,
        { effective: name.replaceAll('"', ''), remarks: '' },
      ]);
  });

  it('is guessed where a name says it in part, and said to be', async () => {
    expect(await planned('price_updated timestamptz not null')).toEqual({
      effective: 'price_updated',
      remarks: expect.stringContaining('price_updated is taken for the effective time for its name') as string,
    });
  });

  it('is the surest of several, which are named', async () => {
    expect(
      await planned(
        'stock_modified timestamptz not null, changed timestamptz not null, "updatedAt" timestamptz not null',
      ),
    ).toEqual({
      effective: 'updatedAt',
      remarks: expect.stringContaining('of updatedAt, changed, stock_modified') as string,
    });
  });

  it.each<[string, string, string, string?]>([
    ['there is none', 'n integer', ''],
    [
      'there is but a time at which the row was made',
      '"createdAt" timestamptz not null',
      '(createdAt says when it was made)',
    ],
    ['it is a date', 'updated_at date not null', '(updated_at is of type date)'],
    ['it is the number of an epoch', 'updated_at bigint not null', '(updated_at is of type bigint)'],
    ['its name says something else', 'last_login timestamptz', ''],
    ['it is left out', 'updated_at timestamptz', '', 'updated_at'],
  ])('is that of the capture where %s, and its cost is said', async (_, columns, clue, ignored) => {
    await pipeline.source.unsafe(`create table t (id integer primary key, v text, ${columns})`);
    const { registration, text } = await propose(settings, 't', { ignore: ignored === undefined ? [] : [ignored] });
    expect(registration.effective_time).toBe('capture');
    expect(registration.remarks).toEqual([
      `no column says when a row changed${clue === '' ? '' : ` ${clue}`}: changes are found by their transactions, versions are valid from their capture, and each sweep reads the whole table`,
    ]);
    expect(text).toContain("    p_effective_time => 'capture'\n");
    expect(registration.columns.map(({ role }) => role)).not.toContain('insert time');
  });

  it('is that of the capture where that is asked for, and history keeps the times as they are', async () => {
    await pipeline.source.unsafe(
      `create table t (id integer primary key, updated_at timestamptz, created_at timestamp); insert into t values (1, null, now()), (2, now(), null)`,
    );
    const { registration } = await register(settings, 't', { effective_time: 'capture' });
    expect(registration.columns.map(({ history, role }) => `${history} ${role}`)).toEqual([
      't_key business key',
      'source_updated_at tracked',
      'source_created_at tracked',
    ]);
    await loadAll(settings, 't');
    const { source, history } = await sourceAndHistory(pipeline, registration);
    expect(history).toEqual(source);
  });

  it('may be part of the key, of a partitioned table too: then it is a column of history, and valid_from', async () => {
    await pipeline.source.unsafe(`
      create table payment (payment_id int generated by default as identity, amount numeric(5,2) not null,
        payment_date timestamptz not null, primary key (payment_date, payment_id)) partition by range (payment_date);
      create table payment_p1 partition of payment for values from ('2026-01-01') to ('2027-01-01');
      insert into payment (amount, payment_date) select g, '2026-02-01'::timestamptz + (g / 7) * interval '1 hour' from generate_series(1, 50) as g`);
    const few = { ...settings, batch_size: 10, batch_size_max: 10 };
    const { registration } = await register(few, 'payment', { effective_time: 'payment_date' });
    expect(registration.remarks).toEqual([expect.stringContaining('payment_date is part of the key') as string]);
    await loadAll(few, 'payment');
    await pipeline.source`update payment set amount = 99 where payment_id = 7`;
    await pipeline.source`delete from payment where payment_id = 8`;
    await loadAll({ ...few, full_sweep_interval_seconds: 0 }, 'payment', true);
    const { source, history } = await sourceAndHistory(pipeline, registration);
    expect(history).toEqual(source);
    expect(
      await pipeline.warehouse`
        select count(*)::integer as versions, count(*) filter (where valid_from = payment_date)::integer as first, count(*) filter (where valid_to is not null)::integer as closed
        from dim_payment_history`,
    ).toEqual([{ versions: 51, first: 50, closed: 2 }]);
  });

  it('is that of the capture where a key holds the only time, so that updates are found by every sweep', async () => {
    await pipeline.source.unsafe(
      'create table payment (id integer, amount integer, created_at timestamptz, primary key (id, created_at)); insert into payment values (1, 1, now())',
    );
    const { registration } = await register(settings, 'payment');
    expect(registration.effective_time).toBe('capture');
    await loadAll(settings, 'payment');
    await pipeline.source`update payment set amount = 2`;
    await loadAll(settings, 'payment');
    const { source, history } = await sourceAndHistory(pipeline, registration);
    expect(history).toEqual(source);
  });

  it('cannot be that of the capture with an insert time beside it', async () => {
    await pipeline.source.unsafe('create table t (id integer primary key, created_at timestamptz)');
    await expect(propose(settings, 't', { effective_time: 'capture', insert_time: 'created_at' })).rejects.toThrow(
      '--insert-time goes with an effective time that is a column',
    );
  });
});
