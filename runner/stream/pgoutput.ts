import type { Lsn } from '../base/replication.js';

/**
 * Messages of the plugin pgoutput, protocol 1, as the section "Logical Replication Message Formats" of the PostgreSQL manual has them. No value of
 * a row is looked at: a tuple says where its bytes are.
 */

/** What stands in place of the length of a value that is null, and of one that was not sent, because it lies out of line and is as before. */
export const NULL = -1;
export const UNCHANGED = -2;

/** A row: its bytes are those of the message. */
export interface Tuple {
  readonly bytes: Buffer;
  /** Where each value begins, and how long it is (NULL, UNCHANGED). */
  readonly starts: readonly number[];
  readonly lengths: readonly number[];
}

export interface RelationColumn {
  readonly name: string;
  /** Whether it is part of the replica identity. */
  readonly isIdentity: boolean;
  readonly type: number;
  readonly modifier: number;
}

/** What follows is about this table, until it is sent again. With publish_via_partition_root it is the root that is named. */
export interface Relation {
  readonly kind: 'relation';
  readonly oid: number;
  readonly schema: string;
  readonly table: string;
  /** As pg_class.relreplident: d, n, f or i. */
  readonly identity: string;
  readonly columns: readonly RelationColumn[];
}

export type Message =
  /** Times are microseconds since 1970, as all here. The position is that of the commit record. */
  | { readonly kind: 'begin'; readonly lsn: Lsn; readonly time: bigint; readonly xid: number }
  /** `end` is the position after it: who starts there gets what follows. */
  | { readonly kind: 'commit'; readonly lsn: Lsn; readonly end: Lsn; readonly time: bigint }
  | { readonly kind: 'origin'; readonly lsn: Lsn; readonly name: string }
  | Relation
  /** Of a domain the name of its base type. */
  | { readonly kind: 'type'; readonly oid: number; readonly schema: string; readonly name: string }
  | { readonly kind: 'insert'; readonly oid: number; readonly row: Tuple }
  /** `old`: where the replica identity is FULL the row as it was, else its identity alone, and only where that has changed. */
  | { readonly kind: 'update'; readonly oid: number; readonly old: Tuple | undefined; readonly row: Tuple }
  | { readonly kind: 'delete'; readonly oid: number; readonly old: Tuple }
  | { readonly kind: 'truncate'; readonly oids: readonly number[] }
  /** What pg_logical_emit_message wrote. */
  | { readonly kind: 'message'; readonly lsn: Lsn; readonly isTransactional: boolean; readonly prefix: string };

/** Seconds from 1970 to 2000, where PostgreSQL begins to count, in microseconds. */
const POSTGRES_EPOCH = 946_684_800_000_000n;

const unknown = (what: string) => new Error(`pgoutput sent a ${what}, which its protocol 1 does not have`);

/** Reads one part of a message after the other, from behind its letter. */
function readerOf(bytes: Buffer) {
  let at = 1;
  const byte = () => bytes.readUInt8((at += 1) - 1);
  const int16 = () => bytes.readInt16BE((at += 2) - 2);
  const int32 = () => bytes.readInt32BE((at += 4) - 4);
  const oid = () => bytes.readUInt32BE((at += 4) - 4);
  const lsn = () => bytes.readBigUInt64BE((at += 8) - 8);
  const time = () => bytes.readBigInt64BE((at += 8) - 8) + POSTGRES_EPOCH;
  const letter = () => String.fromCharCode(byte());
  const text = () => {
    const end = bytes.indexOf(0, at);
    const found = bytes.toString('utf8', at, end);
    at = end + 1;
    return found;
  };
  /** Schema pg_catalog is sent as nothing. */
  const schema = () => text() || 'pg_catalog';
  return { byte, int16, int32, oid, lsn, time, letter, text, schema };
}

/** Where a change has its table's number, and where its first tuple begins, behind the letter that says which. */
const [OID, FIRST_TUPLE] = [1, 6];
const [TEXT, IS_NULL, IS_UNCHANGED, NEW_ROW] = ['t', 'n', 'u', 'N'].map((letter) => letter.charCodeAt(0));

/** Reads a tuple. Most of what comes is tuples: these are read without detours. */
function tupleAt(bytes: Buffer, place: number): Tuple & { readonly end: number } {
  const count = bytes.readUInt16BE(place);
  const [starts, lengths] = [new Array<number>(count), new Array<number>(count)];
  let at = place + 2;
  for (let column = 0; column < count; column += 1) {
    const kind = bytes[at];
    at += 1;
    let length = kind === IS_NULL ? NULL : UNCHANGED;
    if (kind === TEXT) {
      length = bytes.readInt32BE(at);
      at += 4;
    } else if (kind !== IS_NULL && kind !== IS_UNCHANGED)
      throw unknown(`value of kind ${String.fromCharCode(kind ?? 0)}`);
    starts[column] = at;
    lengths[column] = length;
    if (length > 0) at += length;
  }
  return { bytes, starts, lengths, end: at };
}

const times = <T>(count: number, read: () => T): T[] => Array.from({ length: count }, read);

/** Reads one message. @throws Error for one that protocol 1 does not have */
export function parseMessage(bytes: Buffer): Message {
  const kind = String.fromCharCode(bytes[0] ?? 0);
  if (kind === 'I') return { kind: 'insert', oid: bytes.readUInt32BE(OID), row: tupleAt(bytes, FIRST_TUPLE) };
  if (kind === 'D') return { kind: 'delete', oid: bytes.readUInt32BE(OID), old: tupleAt(bytes, FIRST_TUPLE) };
  if (kind === 'U') {
    const first = tupleAt(bytes, FIRST_TUPLE);
    const hasOld = bytes[FIRST_TUPLE - 1] !== NEW_ROW;
    const row = hasOld ? tupleAt(bytes, first.end + 1) : first;
    return { kind: 'update', oid: bytes.readUInt32BE(OID), old: hasOld ? first : undefined, row };
  }
  return parseOther(kind, bytes);
}

function parseOther(kind: string, bytes: Buffer): Message {
  const { byte, int16, int32, oid, lsn, time, letter, text, schema } = readerOf(bytes);
  switch (kind) {
    case 'B':
      return { kind: 'begin', lsn: lsn(), time: time(), xid: oid() };
    case 'C':
      byte();
      return { kind: 'commit', lsn: lsn(), end: lsn(), time: time() };
    case 'O':
      return { kind: 'origin', lsn: lsn(), name: text() };
    case 'R':
      return {
        ...{ kind: 'relation' as const, oid: oid(), schema: schema(), table: text(), identity: letter() },
        columns: times(int16(), () => ({ isIdentity: byte() === 1, name: text(), type: oid(), modifier: int32() })),
      };
    case 'Y':
      return { kind: 'type', oid: oid(), schema: schema(), name: text() };
    case 'T': {
      const count = int32();
      byte();
      return { kind: 'truncate', oids: times(count, oid) };
    }
    case 'M':
      return { kind: 'message', isTransactional: byte() === 1, lsn: lsn(), prefix: text() };
    default:
      throw unknown(`message of kind ${kind}`);
  }
}
