import { createHash } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { runChecks } from '../../../runner/warehouse/checks.js';
import { connect, type Database, type Transaction } from '../../../runner/base/database.js';
import { createWarehouseDatabase, type TestDatabase } from '../../support/databases.js';
import { registerDimension } from '../../support/dimensions.js';
import { apply, applied, at, batch, deletion, empty, rolledBack } from '../../support/batches.js';
import { quoted } from '../../../runner/base/sql-text.js';

/**
 * A column of the dimension of this file. `values` are JSON, as a batch file has them: all different for Tidemark, however
 * equal they may be for PostgreSQL. What is stored must print as `printed` has it, or else as the JSON scalar says.
 */
interface Column {
  readonly source: string;
  readonly history: string;
  readonly type: string;
  readonly values: readonly [string, string, ...string[]];
  readonly printed?: readonly string[];
}

const text = (value: string) => JSON.stringify(value);

const column = (
  source: string,
  type: string,
  values: Column['values'],
  printed?: readonly string[],
  history = source,
): Column => ({ source, history, type, values, ...(printed === undefined ? {} : { printed }) });

const COLUMNS: readonly Column[] = [
  column('value_1', 'bigint', ['9223372036854775807', '-9223372036854775808', '0']),
  column('value_2', 'smallint', ['-32768', '32767']),
  column('content', 'numeric', [
    '1.0',
    '1.00',
    '1',
    '"NaN"',
    '"Infinity"',
    '123456789012345678901234567890.123456789012345678901234567890',
  ]),
  column('reason', 'double precision', ['0', '-0', '"NaN"', '"-Infinity"', '0.1', '5e-324', '1.7976931348623157e+308']),
  column('{history}', 'real', ['0.1', '1.6777216e+07', '1e-45', '-0']),
  column('100%s %1$L %I %', 'text', [
    text('%s {history} {values} $1'),
    text("O'Reilly"),
    text('back\\slash \\n'),
    text('line\nbreak\ttab\r'),
    text('"quoted"'),
    text(''),
    text(' '),
    text('null'),
    text('NULL'),
    text('ünï ☃ 𝄞 e\u0301'),
    text('\u00e9'),
    text('a'.repeat(10_000)),
  ]),
  column('quo"te\'d', 'json', [
    text('{"a":1}'),
    text('{"a": 1}'),
    text('{"a":1,"a":2}'),
    text('"a\\u0000b"'),
    text('null'),
    text('"text"'),
    text('[1.0, 1.00]'),
    text('{"deep": {"x": [true, null]}}'),
  ]),
  column('User', 'jsonb', [
    text('{"a": 1}'),
    text('{"a": 1.0}'),
    text('null'),
    text('"text"'),
    text('[]'),
    text('{"b": "☃", "c": null}'),
  ]),
  column('ünï çødé ☃', 'bytea', [text('\\x'), text('\\x00ff'), text('\\x00fe'), text('\\x5c78')]),
  column('c', 'integer[]', [
    text('[2:4]={1,2,3}'),
    text('{1,2,3}'),
    text('{1,NULL,3}'),
    text('{}'),
    text('{{1,2},{3,4}}'),
  ]),
  column('h', 'text[]', [
    text('{"a,b","c\\"d",NULL,"NULL",""}'),
    text('{a}'),
    text('{" a"}'),
    text('{"back\\\\slash"}'),
  ]),
  column('l', '"odd ""schema"".{x}"."mood %s"', [text('so so'), text('it\'s "fine"'), text('{history}')]),
  column('v', '"odd ""schema"".{x}"."even text"', [text('ab'), text('abcd'), text('')]),
  column('order', 'int4range', [text('[1,5)'), text('empty'), text('(,3)'), text('[1,)')]),
  column('select', 'interval', [
    text('1 day'),
    text('24:00:00'),
    text('1 mon'),
    text('30 days'),
    text('-00:00:00.000001'),
    text('1 year 2 mons -3 days +04:05:06'),
  ]),
  column(
    'from',
    'timestamptz',
    [
      text('2026-02-01T09:00:00.123456+00:00'),
      text('infinity'),
      text('-infinity'),
      text('0044-03-15T12:00:00+00:00 BC'),
      text('294276-12-31T23:59:59.999999+00:00'),
    ],
    [
      '2026-02-01 09:00:00.123456+00',
      'infinity',
      '-infinity',
      '0044-03-15 12:00:00+00 BC',
      '294276-12-31 23:59:59.999999+00',
    ],
  ),
  column(
    'change',
    'timestamp',
    [
      text('2026-02-01T09:00:00.000001'),
      text('infinity'),
      text('-infinity'),
      text('4714-11-24T00:00:00 BC'),
      text('2026-10-25T02:30:00'),
    ],
    ['2026-02-01 09:00:00.000001', 'infinity', '-infinity', '4714-11-24 00:00:00 BC', '2026-10-25 02:30:00'],
  ),
  column('closed_at', 'date', [text('2026-02-01'), text('infinity'), text('4714-11-24 BC'), text('5874897-12-31')]),
  column('shard', 'uuid', [text('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'), text('00000000-0000-0000-0000-000000000000')]),
  column('null', 'boolean', ['true', 'false'], ['true', 'false']),
  column('p_changes', 'numeric(12,3)', ['1.005', '1.006', '-0.001', '"NaN"', '999999999.999']),
  column('v_result', 'character(5)', [text('ab   '), text('abc  '), text('     ')], ['ab', 'abc', '']),
  column('ordinality', 'character varying(5)', [text('ab   '), text('ab'), text('☃☃☃☃☃')]),
  column('as r', 'time(3)', [text('09:00:00.123'), text('24:00:00'), text('00:00:00')]),
  column(
    'c.captured_at',
    'timestamp(3)',
    [text('2026-02-01T09:00:00.123'), text('2026-02-01T09:00:00')],
    ['2026-02-01 09:00:00.123', '2026-02-01 09:00:00'],
  ),
  column('tabs\tand\nlines', 'inet', [text('10.0.0.0/8'), text('10.0.0.0/32'), text('::1/128')]),
  column('; drop table tidemark.batches; --', 'xml', [text('<a/>'), text('<a></a>'), text('<a b="c">&lt;☃</a>')]),
  column('/* */', 'point', [text('(1,2)'), text('(1,-0)'), text('(1,0)')]),
  column('$statement$', 'tsvector', [text("'a' 'b'"), text("'a':1 'b':2A")]),
  column('$1', 'bit varying(8)', [text('1'), text('01'), text('')]),
  column('value 1', 'money', [text('$1.00'), text('-$1,234.56')]),
  column('composite', '"odd ""schema"".{x}"."a pair"', [
    text('(1,a)'),
    text('(1,)'),
    text('(,"")'),
    text('(2,"x, ""y""")'),
  ]),
  column('int8multirange', 'int8multirange', [text('{[1,3),[5,9)}'), text('{}')]),
  column('collate C', 'text collate "C"', [text('a'), text('A'), text('ä')]),
  column('varchar of its own', 'varchar(20) collate "POSIX"', [text('a'), text('A')]),
  column('array of collated', 'text[] collate "C"', [text('{a}'), text('{A}')]),
  column('domain of domain', '"odd ""schema"".{x}"."document"', [text('{"a":1}'), text('"text"'), text('{"a": 1}')]),
  column(
    'domain of time',
    '"odd ""schema"".{x}"."moment"',
    [text('2026-02-01T09:00:00.5'), text('2026-02-01T09:00:00')],
    ['2026-02-01 09:00:00.5', '2026-02-01 09:00:00'],
  ),
  column(
    'domain of plain time',
    '"odd ""schema"".{x}"."instant"',
    [text('2026-02-01T09:00:00.000001'), text('2026-02-01T09:00:00')],
    ['2026-02-01 09:00:00.000001', '2026-02-01 09:00:00'],
  ),
  column('domain of number', '"odd ""schema"".{x}"."price"', ['1.50', '1.51', '"NaN"']),
  column('domain of name', '"odd ""schema"".{x}"."label"', [text('a'), text('b')]),
  column('numbers', 'numeric(6,2)[]', [text('{1.50,2.00}'), text('{1.51,NULL}')]),
  column('a name of sixty-three bytes that is as long as one can ever be.', 'text', [text('a'), text('b')]),
  column('Valid_From', 'text', [text('a'), text('b')], undefined, 'VALID_FROM'),
  column('cdc_operation', 'text', [text('a'), text('b')], undefined, 'their cdc_operation'),
  column('batch_id', 'text', [text('a'), text('b')], undefined, 'their batch_id'),
  column('change_line', 'integer', ['1', '2'], undefined, 'their change_line'),
];

const SCHEMA = '"odd ""schema"".{x}"';
const HISTORY = `${SCHEMA}."History %s {values} of ""Things"""`;
const CREATE = `
  create schema ${SCHEMA};
  create type ${SCHEMA}."mood %s" as enum ('so so', 'it''s "fine"', '{history}');
  create domain ${SCHEMA}."even text" as text check (length(value) % 2 = 0);
  create type ${SCHEMA}."a pair" as (n integer, "some text" text);
  create domain ${SCHEMA}."inner document" as json;
  create domain ${SCHEMA}."document" as ${SCHEMA}."inner document";
  create domain ${SCHEMA}."moment" as timestamp(3);
  create domain ${SCHEMA}."instant" as timestamp;
  create domain ${SCHEMA}."price" as numeric(8,2);
  create domain ${SCHEMA}."label" as varchar(3);
  create table ${HISTORY} (
    surrogate_key integer generated by default as identity primary key,
    "Key, the ""text""" text collate "C" not null,
    "group" bigint not null,
    ${COLUMNS.map(({ history, type }) => `${quoted(history)} ${type}`).join(',\n')},
    valid_from timestamptz not null,
    valid_to timestamptz,
    is_current boolean not null,
    cdc_operation text not null,
    cdc_timestamp timestamptz not null,
    batch_id text not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    captured_at timestamptz not null,
    change_line bigint not null,
    unique ("group", "Key, the ""text""", valid_from),
    check (valid_to > valid_from),
    check (is_current = (valid_to is null))
  );
  create unique index on ${HISTORY} ("group", "Key, the ""text""") where is_current;`;

const MAPPING = [
  { source: 'Key', history: 'Key, the "text"', role: 'business key' },
  ...COLUMNS.map(({ source, history }) => ({ source, history, role: 'tracked' })),
  { source: 'KEY', history: 'group', role: 'business key' },
  { source: 'touched at', history: 'valid_from', role: 'effective time' },
];

let warehouse: TestDatabase;
let sql: Database;
beforeAll(async () => {
  warehouse = await createWarehouseDatabase();
  sql = warehouse.sql;
  await sql.unsafe(CREATE);
  await sql`
    select tidemark.register_dimension(
      p_dimension_name => 'Things', p_source_schema => 'some "schema"', p_source_table => '{table} %s',
      p_history_relation => ${HISTORY}::regclass, p_columns => ${JSON.stringify(MAPPING)}::text::json)`;
});
beforeEach(async () => {
  await empty(sql);
});
afterAll(async () => {
  await warehouse.drop();
});

/** One change line; columns that are not given are null. */
function line(
  time: string,
  values: Readonly<Record<string, string>>,
  key: readonly [string, string] = [text('k'), '1'],
  operation = 'UPDATE',
): string {
  const members = [
    `"Key": ${key[0]}`,
    `"KEY": ${key[1]}`,
    ...COLUMNS.map(({ source }) => `${JSON.stringify(source)}: ${values[source] ?? 'null'}`),
    `"touched at": "${at(time)}Z"`,
    `"operation_type": "${operation}"`,
    `"cdc_timestamp": "${at(time)}Z"`,
    `"extracted_at": "${at('10:00')}Z"`,
  ];
  return `{${members.join(', ')}}`;
}

const things = (name: string, lines: readonly string[]) => batch(name, '10:00', lines, { table: 'Things' });

/** What a column must print: the text that was sent, be it in quotes or not. */
const printedAs = ({ values, printed }: Column) =>
  values.map((value, index) => printed?.[index] ?? (value.startsWith('"') ? String(JSON.parse(value)) : value));

const stored = async (history: string) =>
  (
    await sql.unsafe<{ v: string | null }[]>(`select ${quoted(history)}::text as v from ${HISTORY} order by valid_from`)
  ).map(({ v }) => v);

/** Time of the nth change. */
const minute = (index: number) => `09:${String(index + 10)}`;

describe.each(COLUMNS)('a column $source of type $type', (one) => {
  // Every value, its repeat, null and its repeat; then back to the first.
  const sent = [...one.values, 'null', one.values[0]];
  const expected = [...printedAs(one), null, printedAs(one)[0] ?? null];
  const lines = sent
    .flatMap((value) => [value, value])
    .map((value, index) => line(minute(index), { [one.source]: value }));

  test('is stored as it was sent, and a repeat of it is absorbed, all in one batch', async () => {
    expect(await apply(sql, things('b', lines))).toEqual(
      applied({ inserted_versions: sent.length, closed_versions: sent.length - 1, absorbed_changes: sent.length }),
    );
    expect(await stored(one.history)).toEqual(expected);
  });

  test('is stored as it was sent, and a repeat of it is absorbed, a batch each', async () => {
    for (const [index, each] of lines.entries()) {
      const isRepeat = index % 2 === 1;
      const result = applied(
        isRepeat ? { absorbed_changes: 1 } : { inserted_versions: 1, closed_versions: index === 0 ? 0 : 1 },
      );
      expect(await apply(sql, things(`b${String(index + 10)}`, [each])), each.slice(0, 2000)).toEqual(result);
    }
    expect(await stored(one.history)).toEqual(expected);
  });

  test('is kept aside as it was sent', async () => {
    await apply(sql, things('b', lines));
    const aside = await sql<{ value: string | null }[]>`
      select (change ->> ${one.source}) as value from tidemark.absorbed_changes order by change_line`;
    const asSent = sent.map((value) =>
      value === 'null' ? null : value.startsWith('"') ? String(JSON.parse(value)) : value,
    );
    expect(aside.map(({ value }) => value)).toEqual(
      one.type === 'character(5)' ? asSent.map((value) => value?.trimEnd() ?? null) : asSent,
    );
  });
});

test('a batch of every value of every type that is taken out and brought back is stored and kept aside as it was', async () => {
  const values = COLUMNS.flatMap(({ source, values: all }) => all.map((value) => ({ [source]: value })));
  const lines = values.map((each, index) => line('09:00', each, [text('k'), String(index)]));
  await apply(sql, things('a', lines));
  // Equal, and absorbed.
  await apply(sql, things('b', lines));
  const everything = async () => [
    ...(await sql.unsafe(`select whole_row::text as row from ${HISTORY} as whole_row order by surrogate_key`)),
    ...(await sql`select business_key, change::text from tidemark.absorbed_changes order by change_line`),
  ];
  // But for the clock of the warehouse, and what an absorbed change called itself.
  const told = async () =>
    (await everything()).map((row) =>
      JSON.stringify(row)
        .replaceAll(/\\"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\.\d+[^"]*\\"/g, 'clock')
        .replace(/"operation_type\\":\\"(INSERT|UPDATE)/, 'operation'),
    );
  const before = await told();
  for (const name of ['a', 'b'])
    await sql`select tidemark.retract_batch(p_dimension_name => 'Things', p_batch_id => ${name}, p_reason => 'wrong')`;
  expect(await everything()).toEqual([]);
  for (const name of ['b', 'a'])
    await sql`select tidemark.restore_batch(p_dimension_name => 'Things', p_batch_id => ${name})`;
  const after = await told();
  expect(after.filter((row, index) => row !== before[index])).toEqual([]);
  expect(after).toHaveLength(2 * lines.length);
});

describe('a composite key', () => {
  const [a, b] = [{ value_1: '1' }, { value_1: '2' }];

  test('keeps keys apart that are alike in one part, or in their letters', async () => {
    const keys: [string, string][] = [
      [text('k'), '1'],
      [text('k'), '2'],
      [text('K'), '1'],
      [text(''), '9223372036854775807'],
      [text('k" }'), '1'],
      [text('é'), '1'],
      [text('e\u0301'), '1'],
    ];
    await apply(
      sql,
      things(
        'b1',
        keys.map((key) => line('09:10', a, key)),
      ),
    );
    expect(
      await apply(
        sql,
        things(
          'b2',
          keys.map((key) => line('09:20', b, key)),
        ),
      ),
    ).toEqual(applied({ inserted_versions: 7, closed_versions: 7 }));
    expect(
      await apply(
        sql,
        things(
          'b3',
          keys.map((key) => line('09:20', b, key)),
        ),
      ),
    ).toEqual(applied({ absorbed_changes: 7 }));
  });

  test('is deleted as a whole, and named alike where it is kept aside and in every version', async () => {
    await apply(sql, things('b1', [line('09:10', a), line('09:10', a, [text('k'), '2'])]));
    await apply(sql, things('b2', [JSON.stringify({ ...deletion(0, '09:30'), id: undefined, Key: 'k', KEY: 2 })]));
    expect(
      await sql`select v.is_current, v.business_key from tidemark.versions as v join tidemark.absorbed_changes as a using (dimension_name, business_key)`,
    ).toEqual([{ is_current: false, business_key: '{"Key, the \\"text\\"" : "k", "group" : 2}' }]);
    expect((await runChecks(sql, ['pipeline', 'scd2'])).filter((check) => check.violations > 0)).toEqual([]);
  });

  test.each<[string, [string, string]]>([
    ['Key', ['null', '1']],
    ['KEY', [text('k'), 'null']],
  ])('needs each of its parts: %s', async (part, key) => {
    expect(await apply(sql, things('b1', [line('09:10', a), line('09:20', a, key)]))).toEqual(
      applied({ inserted_versions: 1, rejected_changes: 1 }),
    );
    expect(await sql`select change_line, column_name, reason from tidemark.rejected_changes`).toEqual([
      { change_line: 2, column_name: part, reason: `${part} is null or missing` },
    ]);
  });
});

describe('a value that would not be stored as it is', () => {
  test.each<[string, string, string]>([
    ['p_changes', '1.0005', 'rounded'],
    ['as r', text('09:00:00.1234'), 'rounded'],
    ['c.captured_at', text('2026-02-01T09:00:00.0005'), 'rounded'],
    ['domain of time', text('2026-02-01T09:00:00.0005'), 'rounded'],
    ['domain of number', '1.005', 'rounded'],
    ['numbers', text('{1.50,1.005}'), 'rounded'],
    ['domain of name', text('abcd'), 'too long'],
    ['v', text('abc'), 'check constraint'],
    ['l', text('unknown'), 'enum'],
    ['$1', text('111111111'), 'too long'],
    ['v_result', text('abcdef'), 'too long'],
    ['quo"te\'d', text('{'), 'json'],
    ['value_1', '9223372036854775808', 'range'],
    ['value_1', '1.5', 'bigint'],
    ['content', text(''), 'numeric'],
    ['null', text('maybe'), 'boolean'],
    ['closed_at', text('2026-02-30'), 'out of range'],
  ])('is set aside with its reason, and nothing else with it: "%s" given %s', async (source, value, reason) => {
    expect(await apply(sql, things('b1', [line('09:10', {}), line('09:20', { [source]: value })]))).toEqual(
      applied({ inserted_versions: 1, rejected_changes: 1 }),
    );
    expect(
      await sql`select change_line, column_name, value, reason, business_key from tidemark.rejected_changes`,
    ).toEqual([
      {
        change_line: 2,
        column_name: source,
        value: value.startsWith('"') ? (JSON.parse(value) as string) : value,
        reason: expect.stringContaining(reason) as string,
        business_key: '{"Key, the \\"text\\"" : "k", "group" : 1}',
      },
    ]);
  });
});

test('the settings of the session change neither what is equal nor how it is kept aside', async () => {
  const all = (index: number) =>
    Object.fromEntries(COLUMNS.map(({ source, values }) => [source, values[index] ?? values[0]]));
  const document = things('b', [
    line('09:10', all(0)),
    line('09:11', all(0)),
    line('09:12', all(1)),
    line('09:13', all(1)),
    line('09:20', { reason: '0.1' }),
    line('09:21', { reason: '0.10000000000000002' }),
    line('09:22', { '{history}': '0.1' }),
    line('09:23', { '{history}': '0.10000001' }),
  ]);
  const outcome = async (reader: Database | Transaction) => [
    [
      ...(await reader.unsafe(
        `select (to_jsonb(h) - 'created_at' - 'updated_at' - 'surrogate_key')::text as row from ${HISTORY} as h order by valid_from`,
      )),
    ],
    [...(await reader`select change::text as row, business_key from tidemark.absorbed_changes order by change_line`)],
  ];
  await apply(sql, document);
  const expected = await outcome(sql);
  expect(expected.map((rows) => rows.length)).toEqual([6, 2]);
  for (const setting of [
    "timezone = 'Asia/Tokyo'",
    "datestyle = 'SQL, DMY'",
    "intervalstyle = 'iso_8601'",
    'extra_float_digits = -15',
    "bytea_output = 'escape'",
  ]) {
    await empty(sql);
    await rolledBack(sql, async (transaction) => {
      await transaction.unsafe(`set local ${setting}`);
      await apply(transaction, document);
      await transaction.unsafe(
        'set local timezone = default; set local datestyle = default; set local intervalstyle = default; set local extra_float_digits = default; set local bytea_output = default',
      );
      expect(await outcome(transaction), setting).toEqual(expected);
    });
  }
});

const ORDER = {
  id: 1,
  customer_id: 1,
  product_id: 1,
  quantity: 1,
  unit_price: 1,
  total_amount: 1,
  order_status: 'A',
  order_date: at('09:00'),
  operation_type: 'INSERT',
  cdc_timestamp: at('09:00'),
};

test('a dimension does not touch another, and its late batches are its own', async () => {
  await apply(sql, things('b1', [line('09:10', {})]));
  expect(await apply(sql, batch('b1', '09:30', [ORDER], { sequence: 1 }))).toEqual(applied({ inserted_versions: 1 }));
  expect(await sql`select dimension_name, batch_id from tidemark.versions order by 1 desc`).toEqual([
    { dimension_name: 'orders', batch_id: 'b1' },
    { dimension_name: 'Things', batch_id: 'b1' },
  ]);
  expect((await runChecks(sql, ['pipeline', 'scd2'])).filter((check) => check.violations > 0)).toEqual([]);
});

test('loaders of two dimensions do not wait for each other', async () => {
  const other = connect(warehouse.settings, 'test');
  try {
    await rolledBack(sql, async (transaction) => {
      await apply(transaction, things('b1', [line('09:10', {})]));
      await other`set lock_timeout = '1ms'`;
      expect(await apply(other, batch('b1', '09:30', [ORDER]))).toEqual(applied({ inserted_versions: 1 }));
    });
  } finally {
    await other.end();
  }
});

test('a key that is too long for an index stops its batch, by name (TM011)', async () => {
  const long = Array.from({ length: 400 }, (_, place) => createHash('md5').update(String(place)).digest('hex')).join(
    '',
  );
  const error = await rolledBack(sql, async (transaction) => {
    await registerDimension(transaction, 'long', 'long', [
      { source: 'k', type: 'text', role: 'business key' },
      { source: 'touched', type: 'timestamptz', role: 'effective time' },
    ]);
    const line = {
      k: long,
      touched: '2026-02-01T09:00:00Z',
      operation_type: 'INSERT',
      cdc_timestamp: '2026-02-01T09:00:00Z',
    };
    return transaction
      .savepoint((inner) => apply(inner, batch('b-long', '10:00', [line], { table: 'long' })))
      .catch((fault: unknown) => fault);
  });
  expect(error).toMatchObject({ code: 'TM011', detail: 'table=long batch=b-long' });
});
