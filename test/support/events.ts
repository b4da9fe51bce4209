import { expect } from 'vitest';
import type { Database, Transaction } from '../../runner/base/database.js';
import type { Step } from './known.js';

/** What events say of a history, beside what the history says. */

/** Data of a CloudEvent, as far as tests ask for it. */
export interface Told {
  readonly event_position: string;
  readonly kind: string;
  readonly partition_key: string;
  readonly event_id: string;
  readonly event: string;
}

export interface CloudEvent {
  readonly id: string;
  readonly type: string;
  readonly subject?: string;
  readonly partitionkey?: string;
  readonly sequence: string;
  readonly time: string;
  readonly data: {
    readonly kind: string;
    readonly key: Readonly<Record<string, unknown>> | null;
    readonly point: 'version' | 'end' | null;
    readonly valid_from: string;
    readonly before: Readonly<Record<string, unknown>> | null;
    readonly after: Readonly<Record<string, unknown>> | null;
    readonly changed: readonly string[] | null;
    readonly superseded: boolean;
    readonly snapshot: boolean;
    readonly lineage: { readonly batch_id: string | null; readonly line: number | null };
  };
}

export const cloudEventOf = ({ event }: Told): CloudEvent => JSON.parse(event) as CloudEvent;

/** Gives positions to what has none, and reads all events after a position. */
export async function eventsAfter(sql: Database | Transaction, position: string | number = 0): Promise<Told[]> {
  await sql`select tidemark.number_events()`;
  return [
    ...(await sql<
      Told[]
    >`select * from tidemark.read_events(p_after => ${position}, p_limit => 1000000, p_dimensions => null)`),
  ];
}

/** In a line each: kind, key, moment, and what of the tracked columns is new. */
export const inWords = (events: readonly Told[], column: string): string[] =>
  events.map(cloudEventOf).map(({ subject, data }) => {
    const at = data.valid_from.slice(11, 16);
    const shown = (row: CloudEvent['data']['after']) => (row === null ? '-' : String(row[column]));
    const states = `${shown(data.before)} > ${shown(data.after)}`;
    return `${data.kind} ${subject ?? '?'} ${at}${data.point === 'end' ? ' end' : ''}: ${states}${data.superseded ? ' (superseded)' : ''}`;
  });

/** A point of a key's time: a version begins, or a life ends. */
interface Point {
  readonly place: string;
  readonly key: string;
  readonly moment: string;
  readonly operation: string;
  readonly version: string | null;
  /** The change that made it. */
  readonly change: string;
  readonly content: string | null;
}

/** Follows a history by its events alone, and compares with what it holds after each step. */
export class Follower {
  private readonly seen = new Map<string, string>();
  private readonly points = new Map<string, string | null>();
  private before = new Map<string, Point>();
  private last = '0';

  constructor(
    private readonly transaction: Transaction,
    private readonly table: string,
    private readonly columns: string,
  ) {}

  /** How many events have come so far. */
  get count(): number {
    return this.seen.size;
  }

  async look(step: Step | 'load'): Promise<void> {
    const after = await this.read();
    const events = await eventsAfter(this.transaction, this.last);
    const found: string[] = [];
    for (const told of events) {
      expect(BigInt(told.event_position)).toBe(BigInt(this.last) + 1n);
      this.last = told.event_position;
      this.seen.set(told.event_position, told.event);
      found.push(`${told.kind} ${this.follow(told)}`);
    }
    // By the events alone there is what the history has.
    expect([...this.points].sort()).toEqual([...after.values()].map(({ place, content }) => [place, content]).sort());
    // Steps of one statement say what is between before and after, and nothing else.
    if (step === 'load' || step === 'rebuild') expect(found.sort()).toEqual(this.expected(after).sort());
    else if (step === 'retract' || step === 'restore')
      expect(found.filter((each) => !/^(corrected|retracted) /.test(each))).toEqual([]);
    else if (step !== 'retry') expect(found).toEqual([]);
    this.before = after;
  }

  /** Reads all again: each event is what it was, or is superseded, and a later one of its key, or of the version before, says so. */
  async replay(): Promise<void> {
    const again = (await eventsAfter(this.transaction)).map((told) => ({ told, now: cloudEventOf(told) }));
    expect(again.map(({ told }) => told.event_position)).toEqual([...this.seen.keys()]);
    for (const [index, { told, now }] of again.entries()) {
      const then = JSON.parse(this.seen.get(told.event_position) ?? '') as CloudEvent;
      if (!now.data.superseded) expect(now).toEqual(then);
      else {
        const { before, after, changed } = { ...then.data, ...now.data };
        const isLess = (value: unknown, former: unknown) => value === null || expect(value).toEqual(former);
        isLess(before, then.data.before);
        isLess(after, then.data.after);
        isLess(changed, then.data.changed);
        expect({ ...now, data: { ...now.data, before, after, changed, superseded: then.data.superseded } }).toEqual({
          ...then,
          data: { ...then.data, before, after, changed },
        });
        const isToldOf = again
          .slice(index + 1)
          .some((later) => later.told.partition_key === told.partition_key && /^(corr|retr)/.test(later.told.kind));
        expect(isToldOf, told.event).toBe(true);
      }
    }
  }

  private follow(told: Told): string {
    const { data } = cloudEventOf(told);
    const place = `${told.partition_key} ${data.valid_from}${data.point === 'end' ? ' end' : ''}`;
    if (data.kind === 'retracted') expect(this.points.delete(place), place).toBe(true);
    else if (data.point === 'end') this.points.set(place, null);
    else this.points.set(place, data.superseded && data.after === null ? 'superseded' : JSON.stringify(data.after));
    return place;
  }

  private expected(after: ReadonlyMap<string, Point>): string[] {
    const last = new Map<string, string>();
    for (const { key, moment } of this.before.values()) if ((last.get(key) ?? '') < moment) last.set(key, moment);
    const gone = [...this.before.keys()].filter((place) => !after.has(place)).map((place) => `retracted ${place}`);
    const KINDS: Readonly<Record<string, string>> = { INSERT: 'created', UPDATE: 'updated', DELETE: 'deleted' };
    const moved = new Set([...this.before.values()].map((point) => `${point.key} ${point.change}`));
    const put = [...after.values()].flatMap(({ place, key, moment, operation, version, change, content }) => {
      const former = this.before.get(place);
      if (former === undefined && !moved.has(`${key} ${change}`) && moment >= (last.get(key) ?? ''))
        return [`${KINDS[operation] ?? ''} ${place}`];
      if (former === undefined) return [`corrected ${place}`];
      return former.version === version && former.content === content ? [] : [`corrected ${place}`];
    });
    return [...gone, ...put];
  }

  private async read(): Promise<Map<string, Point>> {
    const rows = await this.transaction.unsafe<Point[]>(`
      select p.*, p.key || ' ' || p.moment || case when p.operation = 'DELETE' then ' end' else '' end as place
      from (
        select json_build_object('id', h.id, 'part', h.part)::text as key,
          to_char(h.valid_from at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as moment,
          h.cdc_operation as operation, h.surrogate_key::text as version, h.batch_id || ':' || h.change_line as change,
          (select row_to_json(r.*) from (select ${this.columns}) as r)::text as content
        from public.dim_${this.table}_history as h
        union all
        select a.business_key, to_char(a.closed_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'DELETE', null, a.batch_id || ':' || a.change_line, null
        from tidemark.absorbed_changes as a
        where a.dimension_name = '${this.table}' and a.reason = 'delete'
      ) as p`);
    return new Map(rows.map((row) => [row.place, row]));
  }
}
