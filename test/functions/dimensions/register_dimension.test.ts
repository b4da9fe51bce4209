import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Transaction } from '../../../runner/base/database.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { apply, applied, batch, rolledBack } from '../../support/batches.js';

let warehouse: TestDatabase;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
});
afterAll(async () => {
  await warehouse.drop();
});

interface Mapped {
  readonly source: string;
  readonly history: string;
  readonly role: string;
}

const KEY: Mapped = { source: 'id', history: 'order_key', role: 'business key' };
const STATUS: Mapped = { source: 'status', history: 'order_status', role: 'tracked' };
const TIME: Mapped = { source: 'touched', history: 'valid_from', role: 'effective time' };
const MADE: Mapped = { source: 'made', history: 'valid_from', role: 'insert time' };

const HISTORY = `
  create table public.things_history (
    surrogate_key bigint generated always as identity primary key,
    order_key integer not null,
    order_status text,
    valid_from timestamp not null,
    valid_to timestamp,
    is_current boolean not null,
    cdc_operation text not null,
    cdc_timestamp timestamp not null,
    batch_id text not null,
    created_at timestamp not null,
    updated_at timestamp not null,
    captured_at timestamptz not null,
    change_line integer not null,
    constraint one_a_time unique (order_key, valid_from),
    constraint in_time check (valid_to > valid_from),
    constraint open_end check (is_current = (valid_to is null))
  );
  create unique index one_current on public.things_history (order_key) where is_current;`;

interface Registration {
  readonly name?: string;
  readonly columns?: readonly Mapped[];
  readonly order?: string;
  readonly deletes?: string | null;
  readonly capture?: string;
  readonly zone?: string;
  readonly history?: string;
  readonly noOverlap?: boolean;
  readonly effectiveTime?: string;
  readonly deletedColumn?: string | null;
  readonly deletedValues?: readonly (string | null)[] | null;
}

async function register(transaction: Transaction, given: Registration = {}): Promise<void> {
  const {
    name = 'things',
    columns = [KEY, STATUS, TIME],
    order = 'capture',
    deletes = 'none',
    zone = 'UTC',
    history = 'public.things_history',
    noOverlap = false,
    effectiveTime = 'column',
    capture = 'poll',
    deletedColumn = null,
    deletedValues = null,
  } = given;
  await transaction`
    select tidemark.register_dimension(
      p_dimension_name => ${name}, p_source_schema => 'public', p_source_table => 'things', p_history_relation => ${history}::regclass,
      p_columns => ${JSON.stringify(columns)}::text::json, p_change_order => ${order}, p_deletes => ${deletes}, p_source_time_zone => ${zone},
      p_no_overlap => ${noOverlap}, p_deleted_column => ${deletedColumn}, p_deleted_values => ${deletedValues === null ? null : [...deletedValues]}::text[],
      p_effective_time => ${effectiveTime}, p_capture => ${capture})`;
}

/** Registers against the history above, after `alterations`, and hands over what PostgreSQL says; all of it is rolled back. */
async function attempt(given: Registration, alterations = ''): Promise<unknown> {
  return rolledBack(warehouse.sql, async (transaction) => {
    await transaction.unsafe(HISTORY);
    await transaction.unsafe(alterations);
    const error: unknown = await transaction
      .savepoint((inner) => register(inner, given))
      .then(
        () => 'registered',
        (caught: unknown) => caught,
      );
    if (error !== 'registered')
      expect(
        await transaction`select dimension_name from tidemark.dimensions where dimension_name not in ('orders', 'customers', 'products')`,
      ).toEqual([]);
    return error;
  });
}

describe('a registration', () => {
  test('makes a dimension that apply_batch writes and the checks read', async () => {
    const outcome = await rolledBack(warehouse.sql, async (transaction) => {
      await transaction.unsafe(HISTORY);
      await register(transaction, { columns: [KEY, STATUS, TIME, MADE] });
      const result = await apply(
        transaction,
        batch('b1', '10:00', [{ id: 1, status: 'A', operation_type: 'INSERT', cdc_timestamp: '2026-02-01T09:00:00' }], {
          table: 'things',
        }),
      );
      return {
        result,
        versions:
          await transaction`select dimension_name, business_key, valid_from, tracked_values from tidemark.versions`,
      };
    });
    expect(outcome).toEqual({
      result: applied({ inserted_versions: 1 }),
      versions: [
        {
          dimension_name: 'things',
          business_key: '{"order_key" : 1}',
          valid_from: '2026-02-01 09:00:00+00',
          tracked_values: '(A)',
        },
      ],
    });
  });

  test('maps a column twice where it is part of the key and the effective time, and both follow its new name', async () => {
    const mapping = await rolledBack(warehouse.sql, async (transaction) => {
      await transaction.unsafe(HISTORY);
      const id = { ...TIME, source: 'id' };
      await transaction`alter table public.things_history alter order_key type timestamp using null`;
      await register(transaction, { columns: [KEY, STATUS, id] });
      await transaction`select tidemark.rename_source_column(p_dimension_name => 'things', p_from => 'id', p_to => 'paid')`;
      await transaction.unsafe(`do $$ begin
        perform tidemark.retire_source_column(p_dimension_name => 'things', p_source_column => 'paid');
        raise 'it was retired';
        exception when sqlstate 'TM007' then null; end $$`);
      const document = (status: string) => [
        { paid: '2026-02-01T09:00:00', status, operation_type: 'UPDATE', cdc_timestamp: '2026-02-01T09:00:00' },
      ];
      await apply(transaction, batch('b1', '10:00', document('A'), { table: 'things' }));
      await apply(transaction, batch('b2', '10:10', document('B'), { table: 'things' }));
      return transaction<{ columns: string; valid_from: string }[]>`
        select m.columns::text as columns, (select array_agg(v.valid_from order by v.valid_from) from tidemark.versions as v
          where v.dimension_name = 'things')::text as valid_from
        from tidemark.dimension_mappings() as m where m.dimension_name = 'things'`;
    });
    const [{ columns, valid_from } = { columns: '[]', valid_from: '' }] = mapping;
    expect(JSON.parse(columns)).toMatchObject([
      { source: 'paid', role: 'business key' },
      { source: 'status', role: 'tracked' },
      { source: 'paid', role: 'effective time' },
    ]);
    expect(valid_from).toBe('{"2026-02-01 09:00:00+00","2026-02-01 10:10:00+00"}');
  });

  test('keeps the mapping in its order, and says nothing about the defaults it was not given', async () => {
    const rows = await rolledBack(warehouse.sql, async (transaction) => {
      await transaction.unsafe(HISTORY);
      await register(transaction);
      return transaction`
        select d.change_order, d.deletes, d.source_time_zone, c.ordinal, c.source_column, c.history_column, c.column_role
        from tidemark.dimensions as d join tidemark.dimension_columns as c using (dimension_name) where dimension_name = 'things' order by c.ordinal`;
    });
    const given = { change_order: 'capture', deletes: 'none', source_time_zone: 'UTC' };
    expect(rows).toEqual(
      [KEY, STATUS, TIME].map(({ source, history, role }, index) => ({
        ...given,
        ordinal: index + 1,
        source_column: source,
        history_column: history,
        column_role: role,
      })),
    );
  });

  test.each<[string, string]>([
    [
      'with a unique index that carries other columns along',
      'drop index public.one_current; create unique index on public.things_history (order_key) include (order_status) where is_current',
    ],
    [
      'with columns of its own besides',
      "alter table public.things_history add note text default 'x', drop column surrogate_key; alter table public.things_history add surrogate_key integer generated always as identity",
    ],
    [
      'with instants instead of local times',
      'alter table public.things_history alter valid_from type timestamptz, alter valid_to type timestamptz, alter cdc_timestamp type timestamptz',
    ],
  ])('takes a history table %s', async (_, alterations) => {
    expect(await attempt({}, alterations)).toBe('registered');
  });

  test('takes a dimension that tracks nothing but the existence of its keys', async () => {
    const result = await rolledBack(warehouse.sql, async (transaction) => {
      await transaction.unsafe(HISTORY);
      await register(transaction, { columns: [KEY, TIME] });
      const existence = (time: string) => ({ id: 1, operation_type: 'INSERT', cdc_timestamp: `2026-02-01T${time}` });
      return apply(transaction, batch('b1', '10:00', [existence('09:00'), existence('09:10')], { table: 'things' }));
    });
    expect(result).toEqual(applied({ inserted_versions: 1, absorbed_changes: 1 }));
  });

  test('leaves in place what was granted and built on tidemark.versions, whatever the types of the new history', async () => {
    const kept = await rolledBack(warehouse.sql, async (transaction) => {
      await transaction.unsafe(`
        create role tidemark_test_auditor;
        grant select on tidemark.versions, tidemark.neighbours to tidemark_test_auditor;
        create view public.version_count as select count(*) as n from tidemark.versions;
        ${HISTORY}
        alter table public.things_history alter change_line type bigint, alter batch_id type varchar(100) collate "C", alter cdc_operation type text collate "POSIX";`);
      await register(transaction);
      await apply(
        transaction,
        batch('b1', '10:00', [{ id: 1, status: 'A', operation_type: 'INSERT', cdc_timestamp: '2026-02-01T09:00:00' }], {
          table: 'things',
        }),
      );
      return transaction`
        select has_table_privilege('tidemark_test_auditor', 'tidemark.versions', 'select') and has_table_privilege('tidemark_test_auditor', 'tidemark.neighbours', 'select') as is_granted, (select n from public.version_count) as n,
          exists (select from tidemark.versions as v join tidemark.batches as b on b.batch_id = v.batch_id where v.cdc_operation = 'INSERT') as is_joined`;
    });
    expect(kept).toEqual([{ is_granted: true, n: '1', is_joined: true }]);
  });

  test('shows each version beside its neighbours, whatever the names and types of its columns; equal is what prints alike', async () => {
    const VALUE: Mapped = { source: 'value', history: 'value_1', role: 'tracked' };
    const ENDED: Mapped = { source: 'ended', history: 'previous_valid_to', role: 'tracked' };
    const rows = await rolledBack(warehouse.sql, async (transaction) => {
      await transaction.unsafe(
        `${HISTORY} alter table public.things_history add column value_1 numeric, add column previous_valid_to json, alter column order_key type numeric;`,
      );
      await register(transaction, { columns: [KEY, VALUE, ENDED, TIME] });
      const version = (from: string, to: string | null, value: string, ended: string) => transaction`
        insert into public.things_history (order_key, value_1, previous_valid_to, valid_from, valid_to, is_current, cdc_operation, cdc_timestamp, batch_id, created_at, updated_at, captured_at, change_line)
        values (${from === '09:10' ? '1.00' : '1'}, ${value}::text::numeric, ${ended}::text::json, ${`2026-02-01 ${from}`}::text::timestamp, ${to === null ? null : `2026-02-01 ${to}`}::text::timestamp, ${to === null}, 'UPDATE', now(), 'b', now(), now(), now(), 1)`;
      await version('09:00', '09:10', '1.0', '{}');
      await version('09:10', '09:20', '1.0', '{}');
      await version('09:20', '09:40', '1.00', '{}');
      await version('09:50', null, '1.00', '{ }');
      return {
        neighbours:
          await transaction`select business_key, previous_valid_to, next_valid_from, equals_previous, tracked_values from tidemark.neighbours order by valid_from`,
        in_force: await transaction`select business_key, current_versions from tidemark.keys_in_force`,
      };
    });
    const business_key = '{"order_key" : 1}';
    expect(rows.neighbours).toEqual([
      {
        business_key,
        previous_valid_to: null,
        next_valid_from: '2026-02-01 09:10:00+00',
        equals_previous: false,
        tracked_values: '(1.0,{})',
      },
      {
        business_key,
        previous_valid_to: '2026-02-01 09:10:00+00',
        next_valid_from: '2026-02-01 09:20:00+00',
        equals_previous: true,
        tracked_values: '(1.0,{})',
      },
      {
        business_key,
        previous_valid_to: '2026-02-01 09:20:00+00',
        next_valid_from: '2026-02-01 09:50:00+00',
        equals_previous: false,
        tracked_values: '(1.00,{})',
      },
      {
        business_key,
        previous_valid_to: '2026-02-01 09:40:00+00',
        next_valid_from: null,
        equals_previous: false,
        tracked_values: '(1.00,"{ }")',
      },
    ]);
    expect(rows.in_force).toEqual([{ business_key, current_versions: '1' }]);
  });

  test("in a zone reads local times there: a time is in the future of its capture by that zone's clock", async () => {
    const rows = await rolledBack(warehouse.sql, async (transaction) => {
      await transaction.unsafe(HISTORY);
      await register(transaction, { zone: 'Europe/Berlin' });
      const thing = (id: number, cdc_timestamp: string) => ({
        id,
        status: 'A',
        operation_type: 'INSERT',
        cdc_timestamp,
      });
      await apply(
        transaction,
        batch(
          'b1',
          '10:00',
          [thing(1, '2026-02-01T11:00:00'), thing(2, '2026-02-01T11:00:00.000001'), thing(3, '2026-02-01T10:30:00')],
          { table: 'things' },
        ),
      );
      return transaction`select order_key, valid_from from public.things_history order by order_key`;
    });
    expect(rows).toEqual([
      { order_key: 1, valid_from: '2026-02-01 11:00:00' },
      { order_key: 2, valid_from: '2026-02-01 11:00:00' },
      { order_key: 3, valid_from: '2026-02-01 10:30:00' },
    ]);
  });

  test.each<[string, boolean]>([
    ['numeric', true],
    ['double precision', true],
    ['char(9)', true],
    ['uuid', true],
    ['bytea', true],
    ['tstzrange', true],
    ['text[]', true],
    ['interval', false],
    ['jsonb', false],
    ['numeric[]', false],
    ['numrange', false],
    ['tidemark.batches', false],
    ['text collate public.careless', false],
  ])('takes a key whose equal values print alike, or can be made to, and no other: %s', async (type, isTaken) => {
    const outcome = rolledBack(warehouse.sql, async (transaction) => {
      await transaction.unsafe(
        `create collation public.careless (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`,
      );
      await transaction.unsafe(HISTORY);
      await transaction.unsafe(`alter table public.things_history drop column order_key; alter table public.things_history add column order_key ${type},
        add constraint one_version_a_time unique (order_key, valid_from); create unique index on public.things_history (order_key) where is_current`);
      await register(transaction);
    });
    if (isTaken) await outcome;
    else
      await expect(outcome).rejects.toMatchObject({
        code: 'TM007',
        message: expect.stringContaining('values can be equal that are printed apart') as string,
      });
  });

  test.each(['none', 'reconcile'])('takes deletes: %s', async (deletes) => {
    expect(await attempt({ deletes, order: 'effective_time' })).toBe('registered');
  });
  test.each([
    ['any value', 'status', null],
    ['one of two values', 'status', ['deleted', 'gone']],
    ['an untracked column', 'note', ['x']],
  ])('takes deletes: soft, marked by %s', async (_, deletedColumn, deletedValues) => {
    const columns = [KEY, STATUS, TIME, { source: 'note', history: 'note', role: 'untracked' }];
    expect(
      await attempt(
        { deletes: 'soft', deletedColumn, deletedValues, columns },
        'alter table public.things_history add column note text',
      ),
    ).toBe('registered');
  });
  test.each([
    ['soft', null, null, 'deletes soft needs the column that marks deleted rows'],
    ['soft', 'missing', null, 'the column that marks deleted rows must be mapped to history, tracked or untracked'],
    ['soft', 'id', null, 'the column that marks deleted rows must be mapped to history, tracked or untracked'],
    ['soft', 'touched', null, 'the column that marks deleted rows must be mapped to history, tracked or untracked'],
    ['soft', 'status', [], 'the values that mean deleted must be one or more, and none of them null'],
    ['soft', 'status', ['a', null], 'the values that mean deleted must be one or more, and none of them null'],
    ['soft', 'flag', null, 'a boolean marks deleted rows with one of its values, not with both: say which'],
    ['none', 'status', null, 'a column that marks deleted rows goes with deletes soft only'],
    ['reconcile', null, ['a'], 'a column that marks deleted rows goes with deletes soft only'],
  ])('refuses deletes: %s, marked by %s with %s', async (deletes, deletedColumn, deletedValues, message) => {
    const columns = [KEY, STATUS, TIME, { source: 'flag', history: 'flag', role: 'tracked' }];
    expect(
      await attempt(
        { deletes, deletedColumn, deletedValues, columns },
        'alter table public.things_history add column flag boolean',
      ),
    ).toMatchObject({ code: 'TM007', message });
  });
  test('of a table that is captured from the log finds its deletes there, unless a column marks them', async () => {
    await rolledBack(warehouse.sql, async (transaction) => {
      await transaction.unsafe(HISTORY);
      await register(transaction, { capture: 'log', deletes: null });
      const said = async () => {
        const rows = await transaction<{ capture: string; deletes: string }[]>`
          select capture, deletes from tidemark.dimensions where dimension_name = 'things'`;
        return rows.flatMap(({ capture, deletes }) => [capture, deletes]);
      };
      const declare = (how: string) => transaction`select tidemark.declare_capture('things', ${how})`;
      expect(await said()).toEqual(['log', 'log']);
      await declare('poll');
      expect(await said()).toEqual(['poll', 'reconcile']);
      await declare('both');
      expect(await said()).toEqual(['both', 'log']);
      await transaction`select tidemark.declare_deletes('things', 'soft', 'status', array['gone'])`;
      await declare('log');
      expect(await said()).toEqual(['log', 'soft']);
      await declare('poll');
      expect(await said()).toEqual(['poll', 'soft']);
    });
  });
  test('of a table that is captured from the log may take the time of its commits for the effective time', async () => {
    await rolledBack(warehouse.sql, async (transaction) => {
      await transaction.unsafe(HISTORY);
      await transaction.unsafe(`
        alter table public.things_history alter column valid_from type timestamptz, alter column valid_to type timestamptz,
          alter column cdc_timestamp type timestamptz`);
      await register(transaction, { capture: 'log', deletes: null, effectiveTime: 'commit', columns: [KEY, STATUS] });
      expect(await transaction`select effective_time from tidemark.dimensions where dimension_name = 'things'`).toEqual(
        [{ effective_time: 'capture' }],
      );
    });
  });
  test.each([
    ['in another order', { capture: 'log', order: 'effective_time' }, 'in the order of their capture only'],
    ['deletes of which are to be found in a log that is not read', { deletes: 'log' }, 'captured from the log only'],
  ])('is refused to a table %s', async (_, given, message) => {
    expect(await attempt(given)).toMatchObject({
      code: 'TM007',
      message: expect.stringContaining(message) as string,
      hint: expect.any(String) as string,
    });
  });
  test('is not left without the column that marks deleted rows', async () => {
    await rolledBack(warehouse.sql, async (transaction) => {
      await transaction.unsafe(HISTORY);
      await register(transaction, { deletes: 'soft', deletedColumn: 'status', deletedValues: ['gone'] });
      const retire = transaction.savepoint(
        (inner) =>
          inner`select tidemark.retire_source_column(p_dimension_name => 'things', p_source_column => 'status')`,
      );
      await expect(retire).rejects.toMatchObject({
        code: 'TM007',
        message: 'the column marks deleted rows: without it nothing would find them',
      });
      await transaction`select tidemark.declare_deletes(p_dimension_name => 'things', p_deletes => 'none')`;
      await transaction`select tidemark.retire_source_column(p_dimension_name => 'things', p_source_column => 'status')`;
    });
  });

  describe('that forbids overlap', () => {
    const overlap = async (alterations = '') =>
      rolledBack(warehouse.sql, async (transaction) => {
        await transaction.unsafe(HISTORY);
        await transaction.unsafe(alterations);
        await register(transaction, { noOverlap: true });
        const thing = (status: string, time: string) => ({
          id: 1,
          status,
          operation_type: 'UPDATE',
          cdc_timestamp: `2026-02-01T${time}`,
        });
        await apply(transaction, batch('b2', '10:00', [thing('B', '09:30'), thing('C', '09:30')], { table: 'things' }));
        await apply(
          transaction,
          batch('b1', '09:15', [thing('A', '09:00'), thing('A2', '09:30')], { table: 'things' }),
        );
        const write = `insert into public.things_history (order_key, order_status, valid_from, valid_to, is_current, cdc_operation, cdc_timestamp, batch_id, created_at, updated_at, captured_at, change_line)
        values (1, 'X', '2026-02-01 09:05', '2026-02-01 09:06', false, 'UPDATE', '2026-02-01 09:05', 'b1', now(), now(), now(), 1)`;
        return [
          (await transaction`select order_status from public.things_history order by valid_from`).map((row) =>
            String(row.order_status),
          ),
          await transaction
            .savepoint((inner) => inner.unsafe(write))
            .catch((error: unknown) => (error as { constraint_name: string }).constraint_name),
        ];
      });

    test.each<[string, string]>([
      ['of local times', ''],
      [
        'of instants',
        'alter table public.things_history alter valid_from type timestamptz, alter valid_to type timestamptz, alter cdc_timestamp type timestamptz',
      ],
    ])('lets every batch in and no version that overlaps another, in a history %s', async (_, alterations) => {
      expect(await overlap(alterations)).toEqual([['A', 'A2', 'B', 'C'], 'no_two_versions_of_things_overlap']);
    });

    test('is refused for a key that GiST cannot compare', async () => {
      await expect(
        overlap("alter table public.things_history alter order_key type pg_lsn using pg_lsn '0/0' + order_key"),
      ).rejects.toMatchObject({
        code: 'TM007',
        message: expect.stringContaining('overlap cannot be forbidden') as string,
      });
    });
  });

  test.each<[string, Registration, string, string?]>([
    ['no business key', { columns: [STATUS, TIME] }, 'no business key'],
    ['no effective time', { columns: [KEY, STATUS] }, 'one effective time'],
    ['two effective times', { columns: [KEY, STATUS, TIME, { ...TIME, source: 'other' }] }, 'one effective time'],
    [
      'an effective time that goes elsewhere',
      { columns: [KEY, STATUS, { ...TIME, history: 'cdc_timestamp' }] },
      'one effective time',
    ],
    [
      'an effective time beside that of the capture',
      { columns: [KEY, STATUS, TIME], effectiveTime: 'capture' },
      'column touched can be none',
    ],
    [
      'an insert time beside the effective time of the capture',
      { columns: [KEY, STATUS, MADE], effectiveTime: 'capture' },
      'column made can be none',
    ],
    [
      'a history without a zone for the effective time of the capture',
      { columns: [KEY, STATUS], effectiveTime: 'capture' },
      'valid_from must be timestamptz',
    ],
    [
      'a tracked column that is a time as well',
      { columns: [KEY, STATUS, { ...TIME, source: 'status' }] },
      'only a key can be',
    ],
    ['two insert times', { columns: [KEY, STATUS, TIME, MADE, { ...MADE, source: 'other' }] }, 'insert times'],
    [
      'an insert time that goes elsewhere',
      { columns: [KEY, STATUS, TIME, { ...MADE, history: 'created_at' }] },
      'insert time',
    ],
    [
      'a source column called operation_type',
      { columns: [KEY, TIME, { ...STATUS, source: 'operation_type' }] },
      'source column operation_type',
    ],
    [
      'a source column called cdc_timestamp',
      { columns: [KEY, STATUS, { ...TIME, source: 'cdc_timestamp' }] },
      'source column cdc_timestamp',
    ],
    [
      'a source column called extracted_at',
      { columns: [{ ...KEY, source: 'extracted_at' }, STATUS, TIME] },
      'source column extracted_at',
    ],
    [
      'a history column that is not there',
      { columns: [KEY, TIME, { ...STATUS, history: 'Order_status' }] },
      'has no column Order_status',
    ],
    [
      'a history column that was dropped',
      {},
      'has no column order_status',
      'alter table public.things_history drop column order_status',
    ],
    [
      'a history table without change_line',
      {},
      'has no column change_line',
      'alter table public.things_history drop column change_line',
    ],
    [
      'one history column for two',
      { columns: [KEY, STATUS, TIME, { ...STATUS, source: 'other' }] },
      'two source columns',
    ],
    [
      "a history column that is Tidemark's own",
      { columns: [KEY, TIME, { ...STATUS, history: 'batch_id' }] },
      "history column batch_id is Tidemark's own",
    ],
    [
      'a key of a type that takes two texts for one',
      {},
      'history column order_key cannot be a key: of its type or collation, values can be equal that are printed apart',
      'create extension citext; alter table public.things_history alter order_key type citext',
    ],
    [
      'a key of a domain over such a type',
      {},
      'history column order_key cannot be a key: of its type or collation, values can be equal that are printed apart',
      'create extension citext; create domain public.name as citext; alter table public.things_history alter order_key type public.name',
    ],
    [
      'a key under a collation that does so',
      {},
      'history column order_key cannot be a key: of its type or collation, values can be equal that are printed apart',
      "create collation public.caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false); alter table public.things_history alter order_key type text collate public.caseless",
    ],
    ['times of two types', {}, 'all be timestamp', 'alter table public.things_history alter valid_to type timestamptz'],
    [
      'days for times',
      {},
      'all be timestamp',
      'alter table public.things_history alter valid_from type date, alter valid_to type date, alter cdc_timestamp type date',
    ],
    [
      'no unique (key, valid_from)',
      {},
      'no unique (business key, valid_from)',
      'alter table public.things_history drop constraint one_a_time',
    ],
    [
      'one that is not unique',
      {},
      'no unique (business key, valid_from)',
      'alter table public.things_history drop constraint one_a_time; create index on public.things_history (order_key, valid_from)',
    ],
    [
      'one that is unique for some',
      {},
      'no unique (business key, valid_from)',
      'alter table public.things_history drop constraint one_a_time; create unique index on public.things_history (order_key, valid_from) where is_current',
    ],
    [
      'one in which the key does not come first, so that no lookup can use it',
      {},
      'no unique (business key, valid_from)',
      'alter table public.things_history drop constraint one_a_time; create unique index on public.things_history (valid_from, order_key)',
    ],
    [
      'one that only carries valid_from along',
      {},
      'no unique (business key, valid_from)',
      'alter table public.things_history drop constraint one_a_time; create unique index on public.things_history (order_key) include (valid_from)',
    ],
    ['no unique current version', {}, 'no unique (business key) where is_current', 'drop index public.one_current'],
    [
      'a unique current version of something else',
      { columns: [KEY, { ...STATUS, role: 'business key' }, TIME] },
      'no unique',
    ],
    [
      'one unique among the historical',
      {},
      'no unique (business key) where is_current',
      'drop index public.one_current; create unique index on public.things_history (order_key) where not is_current',
    ],
    ['a name that is taken', { name: 'orders' }, 'already registered'],
    [
      'no check that a version ends after it begins',
      {},
      'no check (valid_to > valid_from)',
      'alter table public.things_history drop constraint in_time',
    ],
    [
      'one that says less',
      {},
      'no check (valid_to > valid_from)',
      'alter table public.things_history drop constraint in_time; alter table public.things_history add check (valid_to >= valid_from)',
    ],
    [
      'one that was not tried on what is there',
      {},
      'no check (valid_to > valid_from)',
      'alter table public.things_history drop constraint in_time; alter table public.things_history add check (valid_to > valid_from) not valid',
    ],
    [
      'no check that the current version has no end',
      {},
      'no check (is_current = (valid_to is null))',
      'alter table public.things_history drop constraint open_end',
    ],
    ['a zone that there is not', { zone: 'Europe/Atlantis' }, 'time zone is unknown'],
  ])('with %s is refused, and nothing is registered', async (_, given, message, alterations = '') => {
    expect(await attempt(given, alterations)).toMatchObject({
      code: 'TM007',
      message: expect.stringContaining(message) as string,
      hint: expect.any(String) as string,
    });
  });

  test.each<[string, Registration, string]>([
    ['a name with a space', { name: 'my things' }, 'dimension_name_is_a_plain_name'],
    ['a name that leaves its folder', { name: '../things' }, 'dimension_name_is_a_plain_name'],
    ['a name longer than 63 letters', { name: 'a'.repeat(64) }, 'dimension_name_is_a_plain_name'],
    ['a role that there is not', { columns: [KEY, TIME, { ...STATUS, role: 'watched' }] }, 'column_role_is_known'],
    ['an order that there is not', { order: 'random' }, 'change_order_is_known'],
    ['deletes that there are not', { deletes: 'hard' }, 'deletes_is_known'],
    ['a capture that there is not', { capture: 'guess' }, 'capture_is_known'],
    [
      'one source column twice',
      { columns: [KEY, STATUS, TIME, { ...STATUS, history: 'batch_id' }] },
      'a_source_column_has_one_mapping',
    ],
    [
      'a history that belongs to another dimension',
      { history: 'public.dim_orders_history' },
      'a_history_belongs_to_one_dimension',
    ],
  ])('with %s is refused by a constraint', async (_, given, constraint_name) => {
    expect(await attempt(given)).toMatchObject({ constraint_name });
  });
});
