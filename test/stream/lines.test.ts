import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addLine, noLines, takeLines, type LineColumn } from '../../runner/stream/lines.js';
import { lineColumnsOf } from '../../runner/stream/layout.js';
import type { Message } from '../../runner/stream/pgoutput.js';
import { describeTable, readPage, NO_KNOWN_ROWS } from '../../runner/source/table.js';
import { connect } from '../../runner/base/database.js';
import { createEmptyDatabase, type TestDatabase } from '../support/databases.js';
import { NASTY_KINDS, OWN_TYPES } from '../support/kinds.js';
import { createSlot, mappingOf, type TestSlot } from '../support/log.js';

let database: TestDatabase;
beforeAll(async () => {
  database = await createEmptyDatabase();
});
afterAll(async () => {
  await database.drop();
});

const BOUNDS = {
  ...{ floor: 'infinity', snapshot: '3:3:' },
  sweep: {
    ...{ from_floor: null, from_high_watermark: null, from_transaction: null },
    before_transaction: '9223372036854775807',
  },
};

/** Change lines without what a reader adds of its own. */
const rowsOf = (lines: string, isWhole: boolean) =>
  lines.split(',\n').map((line) => (isWhole ? line : line.replace(/,"operation_type".*$/, '}')));

/** All rows of a table as a poll prints them, in the order of its key. */
async function polled(
  table: string,
  columns: readonly string[],
  source = database.sql,
  isWhole = false,
): Promise<string[]> {
  const described = await describeTable(source, mappingOf(table, columns, ['id']));
  const place = { isDated: false, after: null };
  const limits = { rows: 100_000, bytes: 100_000_000, known_rows: NO_KNOWN_ROWS };
  const { lines } = await readPage(source, described, BOUNDS, place, limits, null);
  return rowsOf(lines ?? '', isWhole);
}

/** The members of two lines of the kinds that differ, with their types. */
const differing = (one: string, other = '') => {
  const parts = other.split(/(?="c\d+ )/);
  return one.split(/(?="c\d+ )/).filter((part, index) => part !== parts[index]);
};

const AT = '"2026-02-01T09:00:00+00:00"';

/** What rows were inserted, as the log prints them. */
function logged(messages: readonly Message[], columns: readonly string[], isWhole = false): string[] {
  const lines = noLines(1);
  const domains = new Map<number, string>();
  let layout: LineColumn[] = [];
  for (const message of messages) {
    if (message.kind === 'type' && message.schema === 'pg_catalog') domains.set(message.oid, message.name);
    if (message.kind === 'relation') layout = lineColumnsOf(mappingOf('any', columns, ['id']), message, domains);
    if (message.kind === 'insert')
      addLine(lines, { operation: 'UPDATE', at: AT, mayBeUnreadable: isWhole }, layout, message.row);
  }
  return rowsOf(lines.bytes.toString('utf8', 0, lines.length), isWhole);
}

describe('a row is the same bytes, read by a poll and from the log,', () => {
  const bare = (type: string) => type.replace(/\(.*/, '');
  const DOMAINS = ['integer', 'boolean', 'timestamptz', 'char(4)', 'numeric(8,2)', 'text'];
  const KINDS = [
    ...NASTY_KINDS,
    ...(['smallint', 'integer', 'bigint'] as const).map((type) => [type, "'-1'", "'32767'"] as const),
    ['boolean', 'true', 'false'] as const,
    ['timestamp', "'12345-01-01 00:00:00.5'", "'2026-02-01 09:00:00.000001'"] as const,
    ['timestamptz', "'294276-12-31 23:59:59.999999+00'", "'4713-01-01 00:00+00 BC'"] as const,
    ['char(5)[]', `array['a  ', '']`] as const,
    ['"char"', `'a'`] as const,
    ['name', `'it''s "so"'`] as const,
    ['xml', `'<a b="c">&amp;</a>'`] as const,
    ['d_integer', '7'] as const,
    ['d_boolean', 'true'] as const,
    ['d_timestamptz', "'2026-02-01 09:00:00.1+05:30'", "'infinity'"] as const,
    ['d_char', "'a'", "''"] as const,
    ['d_numeric', '1.10', "'NaN'"] as const,
    ['d_text', "' a'"] as const,
    ['dd_timestamptz', "'0001-01-01 00:00+00 BC'", "'-infinity'"] as const,
    ['dd_text', "' a'"] as const,
    ['dd_integer', '7', '-1'] as const,
    ['dd_boolean', 'true', 'false'] as const,
    ['dd_char', "'a'", "''"] as const,
    ['dd_numeric', '1.10', "'NaN'"] as const,
    ['dd_integer[]', "'{1,NULL}'", "'[0:0]={7}'"] as const,
    ['d_char[]', `array['a', '']`] as const,
    ['pair', "row(1, 'a')", "row(null, '')"] as const,
    ['d_pair', "row(7, ' b')"] as const,
    ['oid', '4294967295', '0'] as const,
    ['xid8', "'18446744073709551615'"] as const,
    ['tid', "'(1,2)'"] as const,
    ['tsquery', `'''a b'' & !c:*'`] as const,
    ['macaddr8', "'08:00:2b:01:02:03:04:05'"] as const,
    ['jsonpath', `'$.a[*] ? (@ > 1)'`] as const,
    ['box[]', "'{(1,1),(0,0);(2,2),(1,1)}'"] as const,
    ['polygon', "'((0,0),(1e-30,-0))'"] as const,
    ['inet[]', "'{10.0.0.1,::1/64}'"] as const,
    ['timestamp(0)', "'2026-02-01 09:00:00.6'"] as const,
    ['interval day to second(2)', "'1 day 02:03:04.567'"] as const,
    ['mine.int4', "'(1)'"] as const,
  ];
  const columns = ['id', ...KINDS.map((_, index) => `c${String(index)} "so"`)];
  const quote = (name: string) => `"${name.replaceAll('"', '""')}"`;
  let slot: TestSlot;
  beforeAll(async () => {
    await database.sql.unsafe(OWN_TYPES);
    for (const type of DOMAINS) {
      await database.sql.unsafe(`create domain d_${bare(type)} as ${type}`);
      await database.sql.unsafe(`create domain dd_${bare(type)} as d_${bare(type)}`);
    }
    await database.sql.unsafe(`create type pair as (x dd_integer, y d_char); create domain d_pair as pair;
      create schema mine; create type mine.int4 as (int4 integer)`);
    const declared = KINDS.map(([type], index) => `${quote(columns[index + 1] ?? '')} ${type}`);
    await database.sql.unsafe(`create table kinds (id integer primary key, ${declared.join(', ')})`);
    slot = await createSlot(database.sql, 'kinds');
  });

  it('whatever its types, with the values that are easily spoilt, and null', async () => {
    const most = Math.max(...KINDS.map((kind) => kind.length)) - 1;
    for (let row = 0; row <= most; row += 1) {
      const values = KINDS.map(([type, ...each]) => {
        const value = each[row];
        return value === undefined ? 'null' : `(${value})::${type}`;
      });
      await database.sql.unsafe(`insert into kinds values (${[String(row), ...values].join(', ')})`);
    }
    const [fromPoll, fromLog] = [await polled('kinds', columns), logged(await slot.read(), columns)];
    for (const [row, line] of fromLog.entries()) expect(differing(line, fromPoll[row])).toEqual([]);
    expect(fromPoll).toHaveLength(most + 1);
  });

  it('whatever its texts, numbers and times', async () => {
    const text = fc
      .string({ unit: 'binary' })
      .map((each) => each.replaceAll('\0', '').replaceAll(/[\ud800-\udfff]/g, ''));
    const time = fc.date({ noInvalidDate: true, min: new Date('0001-01-01'), max: new Date('9999-12-31') });
    const row = fc.tuple(
      text,
      fc.double(),
      fc.float(),
      time,
      fc.uint8Array(),
      fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    );
    const names = ['id', 't', 'c', 'd', 'r', 'n', 'ts', 'tz', 'b', 'i', 'a', 'j'];
    await database.sql`create table random (id integer primary key, t text, c char(9), d float8, r real, n numeric,
      ts timestamp, tz timestamptz, b bytea, i bigint, a text[], j json)`;
    await database.sql.unsafe(`alter publication ${slot.slot} add table random`);
    await slot.read();
    await fc.assert(
      fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 20 }), async (rows) => {
        await database.sql`truncate random`;
        await slot.read();
        const given = rows.map(([t, d, r, when, b, i], id) => ({
          ...{
            id,
            t,
            c: t.slice(0, 9),
            d: String(d),
            r: String(r),
            n: String(d),
            ts: when.toISOString(),
            tz: when.toISOString(),
          },
          ...{ b: `\\x${Buffer.from(b).toString('hex')}`, i: String(i), a: [t, 'a,"'], j: JSON.stringify(t) },
        }));
        await database.sql`insert into random select id, t, c, d::float8, r::real, n::numeric, ts, tz, b::bytea, i, a, j
          from json_to_recordset(${JSON.stringify(given)}::text::json)
          as r (id integer, t text, c char(9), d text, r text, n text, ts timestamp, tz timestamptz, b text, i bigint, a text[], j json)`;
        expect(logged(await slot.read(), names)).toEqual(await polled('random', names));
      }),
      { numRuns: 30 },
    );
  });

  it('whatever its dates, intervals, ranges, documents, and types of its own', async () => {
    const number = `((random() - 0.5) * 10 ^ (random() * 12 - 4)::integer)`;
    const text = `translate(md5(random()::text), '0123456789', E' ",\\\\(){}<\n')`;
    const moment = `timestamptz '2000-01-01 00:00+00' + (random() - 0.4) * 1e6 * interval '1 day'`;
    const RANDOM: Readonly<Record<string, string>> = {
      numeric: `case when random() < 0.1 then 'NaN' else ${number}::numeric end`,
      'numeric(30,5)': `${number}::numeric`,
      money: `(${number})::numeric::money`,
      oid: '(random() * 4e9)::bigint::oid',
      pg_lsn: `'0/0'::pg_lsn + (random() * 1e15)::numeric(20)`,
      date: `(${moment})::date - (random() * 1e6)::integer`,
      timestamptz: `${moment} - (random() * 3000) * interval '1 year'`,
      timestamp: `(${moment})::timestamp(0)`,
      time: `(${moment})::time`,
      timetz: `((${moment})::time::text || case when random() < 0.5 then '+05:30' else '-15:59' end)::timetz`,
      interval: `make_interval((${number})::integer % 1000, (random() * 100)::integer - 50, 0, (random() * 9)::integer - 4, 0, 0, random() * 100)`,
      'bit(9)': '((random() * 511)::integer)::bit(9)',
      'bit varying': `(((random() * 511)::integer)::bit(9)::text)::varbit`,
      '"char"': 'chr(1 + (random() * 126)::integer)::"char"',
      name: `left(${text}, 20)::name`,
      'char(9)': `left(${text}, (random() * 9)::integer)`,
      d_char: `left(${text}, (random() * 4)::integer)`,
      dd_numeric: `(random() * 1000)::numeric`,
      dd_timestamptz: moment,
      mood: `(enum_range(null::mood))[1 + (random() * 2)::integer]`,
      spot: `row(${number}::numeric, ${text})::spot`,
      'spot[]': `array[row(null, ${text})::spot, null]`,
      'text[]': `array[${text}, null, '']`,
      jsonb: `jsonb_build_object(${text}, ${number}, 'a', array[${text}])`,
      json: `json_build_object(${text}, ${number}, 'a', array[${text}])`,
      xml: `xmlelement(name "a", xmlattributes(${text} as b), ${text})`,
      numrange: `numrange(least(0, ${number}::numeric), case when random() < 0.5 then 1e9 end, '[]')`,
      tstzrange: `tstzrange(null, ${moment})`,
      int8multirange: `int8multirange(int8range(0, 1 + (random() * 100)::bigint), int8range(200, null))`,
      inet: `'0.0.0.0'::inet + (random() * 4e9)::bigint`,
      point: `point(${number}, ${number})`,
      bytea: `decode(md5(random()::text), 'hex')`,
      uuid: 'gen_random_uuid()',
      tsvector: `to_tsvector('simple', ${text})`,
    };
    const types = Object.keys(RANDOM);
    const names = ['id', ...types.map((_, place) => `c${String(place)} "so"`)];
    await database.sql.unsafe(
      `create table many (id integer primary key, ${types.map((type, place) => `${quote(names[place + 1] ?? '')} ${type}`).join(', ')})`,
    );
    await database.sql.unsafe(`alter publication ${slot.slot} add table many`);
    await slot.read();
    const values = Object.values(RANDOM).map((value) => `case when random() < 0.9 then ${value} end`);
    await fc.assert(
      fc.asyncProperty(fc.double({ min: -1, max: 1, noNaN: true }), async (seed) => {
        await database.sql.unsafe(`truncate many; select setseed(${String(seed)});
          insert into many select g, ${values.join(', ')} from generate_series(1, 50) as g`);
        const [fromLog, fromPoll] = [logged(await slot.read(), names), await polled('many', names)];
        for (const [row, line] of fromLog.entries()) expect(differing(line, fromPoll[row])).toEqual([]);
        expect(fromLog).toHaveLength(50);
      }),
      { numRuns: 5 },
    );
  });

  it('where it is no valid UTF-8, which is said of it', async () => {
    const name = `${database.settings.database}_ascii`;
    await database.sql.unsafe(`create database ${name} template template0 encoding 'SQL_ASCII' locale 'C'`);
    const ascii = connect({ ...database.settings, database: name }, 'test');
    await ascii`create table texts (id integer primary key, t text, u text)`;
    const slot = await createSlot(ascii, 'texts');
    await ascii.unsafe(
      `insert into texts values (1, convert_from('\\xff5c22'::bytea, 'SQL_ASCII'), 'a'), (2, convert_from('\\xc3a9'::bytea, 'SQL_ASCII'), 'b')`,
    );
    const names = ['id', 't', 'u'];
    const whole = (lines: readonly string[]) =>
      lines.map(
        (line) => JSON.parse(line.replace(/"cdc_timestamp":.*?"extracted_at":"[^"]*"/, '"times":0')) as unknown,
      );
    await ascii`set client_encoding = 'SQL_ASCII'`;
    const fromLog = whole(logged(await slot.read(), names, true));
    await ascii`set client_encoding = 'UTF8'`;
    expect(fromLog).toEqual(whole(await polled('texts', names, ascii, true)));
    expect(fromLog[0]).toEqual({
      id: 1,
      u: 'a',
      operation_type: 'UNREADABLE',
      times: 0,
      unreadable: { t: '\\377\\\\"' },
    });
    await ascii.end();
    await database.sql.unsafe(`drop database ${name} with (force)`);
  });

  it('in a database that is not in UTF-8', async () => {
    const name = `${database.settings.database}_latin`;
    await database.sql.unsafe(`create database ${name} template template0 encoding 'LATIN1' locale 'C'`);
    const latin = connect({ ...database.settings, database: name }, 'test');
    await latin`create table texts (id integer primary key, "é" text, c char(3))`;
    const slot = await createSlot(latin, 'texts');
    await latin`insert into texts values (1, ${'é ÿ "ß"'}, 'é')`;
    const names = ['id', 'é', 'c'];
    expect(logged(await slot.read(), names)).toEqual(await polled('texts', names, latin));
    expect(await polled('texts', names, latin)).toEqual(['{"id":1,"é":"é ÿ \\"ß\\"","c":"é"}']);
    await latin.end();
    await database.sql.unsafe(`drop database ${name} with (force)`);
  });
});

describe('lines', () => {
  it('are taken out up to a place, and the others stay', () => {
    const lines = noLines(1);
    const places: number[] = [0];
    for (let row = 0; row < 4; row += 1) {
      addLine(lines, { operation: 'TRUNCATE', at: String(row) }, []);
      places.push(lines.length);
    }
    const shown = (bytes: Buffer) => [...bytes.toString().matchAll(/"extracted_at":([0-9])/g)].map(([, at]) => at);
    const first = takeLines(lines, places[2] ?? 0, 2);
    expect(shown(first)).toEqual(['0', '1']);
    expect(lines.count).toBe(2);
    addLine(lines, { operation: 'TRUNCATE', at: '4' }, []);
    const rest = takeLines(lines, lines.length, 3);
    expect(JSON.parse(`[${rest.toString()}]`)).toHaveLength(3);
    expect(shown(rest)).toEqual(['2', '3', '4']);
    expect([lines.count, lines.length]).toEqual([0, 0]);
  });
});
