import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lsnOf, lsnText } from '../../runner/base/replication.js';
import { NULL, UNCHANGED, parseMessage, type Message, type Tuple } from '../../runner/stream/pgoutput.js';
import { createEmptyDatabase, type TestDatabase } from '../support/databases.js';
import { createSlot, type TestSlot } from '../support/log.js';

let database: TestDatabase;
let slot: TestSlot;
beforeAll(async () => {
  database = await createEmptyDatabase();
  await database.sql.unsafe(`
    create table plain (id integer primary key, name text, big text);
    alter table plain alter column big set storage external;
    create table whole (id integer primary key, name text, big text);
    alter table whole replica identity full;
    alter table whole alter column big set storage external;
    create table by_index (code text not null, id integer primary key);
    create unique index by_code on by_index (code);
    alter table by_index replica identity using index by_code;
    create domain amount as numeric(8,2);
    create table typed (id integer primary key, a amount);
    create table parted (id integer, part integer, primary key (id, part)) partition by list (part);
    create table part_1 partition of parted for values in (1);
    create table part_2 partition of parted for values in (2)`);
  slot = await createSlot(database.sql, 'plain, whole, by_index, typed, parted');
});
afterAll(async () => {
  await database.drop();
});

/** The values of a tuple as text; null and undefined for those that are null, and that were not sent. */
const valuesOf = ({ bytes, starts, lengths }: Tuple) =>
  lengths.map((length, place) => {
    if (length === NULL) return null;
    if (length === UNCHANGED) return undefined;
    const text = bytes.toString('utf8', starts[place], (starts[place] ?? 0) + length);
    return text.length > 100 ? `${String(text.length)} letters` : text;
  });

/** What a message says of rows, without its numbers. */
const shown = (message: Message): unknown => {
  if (message.kind === 'insert') return ['insert', valuesOf(message.row)];
  if (message.kind === 'update') return ['update', message.old && valuesOf(message.old), valuesOf(message.row)];
  return message.kind === 'delete' ? ['delete', valuesOf(message.old)] : message.kind;
};

/** The messages of one transaction that runs these statements. */
async function messagesOf(...statements: string[]): Promise<Message[]> {
  await slot.read();
  await database.sql.unsafe(statements.join(';\n'));
  return slot.read();
}
const rowsOf = async (...statements: string[]) =>
  (await messagesOf(...statements))
    .filter(({ kind }) => ['insert', 'update', 'delete', 'truncate'].includes(kind))
    .map(shown);

const LONG = `repeat('x', 5000)`;

describe('a message of the log', () => {
  it('begins a transaction, names the table and its columns, and ends with a place to go on from', async () => {
    const messages = await messagesOf(`insert into plain values (1, null, '')`);
    const [begin, relation, insert, commit] = messages;
    expect(messages.map(({ kind }) => kind)).toEqual(['begin', 'relation', 'insert', 'commit']);
    expect(relation).toMatchObject({ schema: 'public', table: 'plain', identity: 'd' });
    if (begin?.kind !== 'begin' || relation?.kind !== 'relation' || commit?.kind !== 'commit') throw new Error('other');
    expect(relation.columns).toEqual([
      { name: 'id', isIdentity: true, type: 23, modifier: -1 },
      { name: 'name', isIdentity: false, type: 25, modifier: -1 },
      { name: 'big', isIdentity: false, type: 25, modifier: -1 },
    ]);
    expect(insert && shown(insert)).toEqual(['insert', ['1', null, '']]);
    expect(begin.lsn).toBe(commit.lsn);
    expect(commit.end > commit.lsn).toBe(true);
    expect(Math.abs(Number(begin.time / 1000n) - Date.now())).toBeLessThan(600_000);
    const [now] = await database.sql<{ now: string }[]>`select pg_current_wal_lsn()::text as now`;
    expect(lsnOf(now?.now ?? '') >= commit.end).toBe(true);
    expect(lsnText(lsnOf('16/B374D848'))).toBe('16/B374D848');
  });

  it('updates with the identity as it was only where that has changed', async () => {
    expect(await rowsOf(`update plain set name = 'a' where id = 1`, 'update plain set id = 2 where id = 1')).toEqual([
      ['update', undefined, ['1', 'a', '']],
      ['update', ['1', null, null], ['2', 'a', '']],
    ]);
    expect(await rowsOf(`insert into by_index values ('a', 1)`, `update by_index set id = 2`)).toEqual([
      ['insert', ['a', '1']],
      ['update', undefined, ['a', '2']],
    ]);
    expect(await rowsOf(`update by_index set code = 'b'`, 'delete from by_index')).toEqual([
      ['update', ['a', null], ['b', '2']],
      ['delete', ['b', null]],
    ]);
  });

  it('deletes by the identity alone', async () => {
    expect(await rowsOf('delete from plain')).toEqual([['delete', ['2', null, null]]]);
  });

  it('leaves out a large value that was not touched, but where the identity is full, which has the row as it was', async () => {
    expect(
      await rowsOf(
        `insert into plain values (1, 'a', ${LONG})`,
        `update plain set name = 'b'`,
        'update plain set id = 5',
      ),
    ).toEqual([
      ['insert', ['1', 'a', '5000 letters']],
      ['update', undefined, ['1', 'b', undefined]],
      ['update', ['1', null, null], ['5', 'b', undefined]],
    ]);
    expect(
      await rowsOf(`insert into whole values (1, 'a', ${LONG})`, `update whole set name = null`, 'delete from whole'),
    ).toEqual([
      ['insert', ['1', 'a', '5000 letters']],
      ['update', ['1', 'a', '5000 letters'], ['1', null, undefined]],
      ['delete', ['1', null, '5000 letters']],
    ]);
  });

  it('names the base type of a domain before the table that has it', async () => {
    const messages = await messagesOf('insert into typed values (1, 1.5)');
    expect(messages.map(({ kind }) => kind)).toEqual(['begin', 'type', 'relation', 'insert', 'commit']);
    const [, type, relation] = messages;
    expect(type).toMatchObject({ schema: 'pg_catalog', name: 'numeric' });
    if (type?.kind !== 'type' || relation?.kind !== 'relation') throw new Error('other');
    expect(relation.columns[1]?.type).toBe(type.oid);
  });

  it('empties tables, several at once', async () => {
    const messages = await messagesOf('truncate plain, whole');
    const oids = messages.flatMap((message) => (message.kind === 'relation' ? [message.oid] : []));
    expect(messages.find(({ kind }) => kind === 'truncate')).toEqual({ kind: 'truncate', oids });
    expect(oids).toHaveLength(2);
  });

  it('knows a partitioned table by its root, and a move between partitions as a delete and an insert', async () => {
    const messages = await messagesOf('insert into parted values (1, 1)', 'update parted set part = 2');
    const root = messages.find((message) => message.kind === 'relation');
    expect(root).toMatchObject({ table: 'parted' });
    const changes = messages.filter((message) => 'oid' in message && message.kind !== 'relation');
    expect(changes.every((message) => 'oid' in message && root?.kind === 'relation' && message.oid === root.oid)).toBe(
      true,
    );
    expect(changes.map(shown)).toEqual([
      ['insert', ['1', '1']],
      ['delete', ['1', '1']],
      ['insert', ['1', '2']],
    ]);
  });

  it('may be what somebody wrote with pg_logical_emit_message, in a transaction or beside it', async () => {
    expect(
      await messagesOf(
        `select pg_logical_emit_message(true, 'tidemark', 'x')`,
        `select pg_logical_emit_message(false, 'other', 'y')`,
      ),
    ).toMatchObject([
      { kind: 'message', isTransactional: false, prefix: 'other' },
      { kind: 'begin' },
      { kind: 'message', isTransactional: true, prefix: 'tidemark' },
      { kind: 'commit' },
    ]);
  });

  it('says where a transaction came from that was replicated here', async () => {
    const messages = await messagesOf(
      `select pg_replication_origin_create(current_database() || ' elsewhere')`,
      `select pg_replication_origin_session_setup(current_database() || ' elsewhere')`,
      'insert into plain values (9)',
      'commit',
      `select pg_replication_origin_session_reset()`,
      `select pg_replication_origin_drop(current_database() || ' elsewhere')`,
    );
    expect(messages.slice(0, 2)).toMatchObject([
      { kind: 'begin' },
      { kind: 'origin', name: `${database.settings.database} elsewhere` },
    ]);
  });

  it('that protocol 1 does not have is an error and no guess', () => {
    expect(() => parseMessage(Buffer.from('S'))).toThrow(
      'pgoutput sent a message of kind S, which its protocol 1 does not have',
    );
    const binary = Buffer.from('490000000a4e000162000000017f', 'hex');
    expect(() => parseMessage(binary)).toThrow('pgoutput sent a value of kind b, which its protocol 1 does not have');
  });
});
