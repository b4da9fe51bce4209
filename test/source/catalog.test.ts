import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readTable, type CatalogTable } from '../../runner/source/catalog.js';
import { createEmptyDatabase, type TestDatabase } from '../support/databases.js';

const PAIRS = [
  ['integer', 'bigint', true],
  ['bigint', 'integer', false],
  ['integer', 'numeric', true],
  ['integer', 'numeric(10,0)', true],
  ['integer', 'numeric(10,2)', false],
  ['bigint', 'numeric(10,0)', false],
  ['numeric(10,2)', 'numeric(12,2)', true],
  ['numeric(10,2)', 'numeric(12,4)', false],
  ['numeric(12,2)', 'numeric(10,2)', false],
  ['numeric', 'numeric(10,2)', false],
  ['numeric(10,2)', 'numeric', true],
  ['real', 'double precision', true],
  ['double precision', 'real', false],
  ['character varying(10)', 'character varying(20)', true],
  ['character varying(20)', 'character varying(10)', false],
  ['text', 'character varying(10)', false],
  ['text', 'character varying', true],
  ['character(3)', 'character varying(3)', true],
  ['character varying(3)', 'character(3)', false],
  ['jsonb', 'json', true],
  ['json', 'jsonb', false],
  ['timestamp(3) with time zone', 'timestamp with time zone', true],
  ['timestamp with time zone', 'timestamp(3) with time zone', false],
  ['timestamp without time zone', 'timestamp with time zone', false],
  ['uuid', 'text', true],
  ['text', 'uuid', false],
  ['integer[]', 'bigint[]', true],
  ['integer[]', 'bigint', false],
  ['integer', 'bigint[]', false],
  ['integer[]', 'text', true],
  ['integer', 'text[]', false],
  ['public.mood', 'text', true],
  ['public.mood', 'public.mood', true],
  ['character(3)', 'character(5)', false],
  ['bit varying(3)', 'bit varying(5)', true],
  ['date', 'timestamp without time zone', false],
] as const;
const SHORT = [
  ['timestamp(3) with time zone', 'timestamptz(3)'],
  ['time without time zone[]', 'time[]'],
  ['character varying(50)[]', 'varchar(50)[]'],
  ['character(3)', 'char(3)'],
  ['bit varying(3)', 'bit varying(3)'],
  ['interval day to second(3)', 'interval day to second(3)'],
  ['"char"', '"char"'],
] as const;

const TYPES = [
  ...new Set([...PAIRS.flatMap(([source, history]) => [source, history]), ...SHORT.map(([type]) => type)]),
];

let database: TestDatabase;
let table: CatalogTable;
beforeAll(async () => {
  database = await createEmptyDatabase();
  const columns = TYPES.map((type, place) => `c${String(place)} ${type}`);
  await database.sql.unsafe(`create type public.mood as enum ('sad'); create table kinds (${columns.join(', ')})`);
  table = await readTable(database.sql, { schema: 'public', table: 'kinds' }, TYPES);
});
afterAll(async () => {
  await database.drop();
});

const columnOf = (type: string) => table.columns[TYPES.findIndex((each) => each === type)];

describe('a type at the source and one in history', () => {
  it.each(PAIRS)('%s fits into %s: %s', (source, history, fits) => {
    expect(columnOf(source)?.fits.includes(history)).toBe(fits);
    expect(columnOf(history)?.holds.includes(source)).toBe(fits);
  });
});

it.each(SHORT)('%s is written %s', (type, short) => {
  expect(columnOf(type)?.type).toBe(short);
});
