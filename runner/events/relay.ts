import { connect, explainDatabaseError, isAway, type Database } from '../base/database.js';
import { HeldError, TidemarkError, whereAndNext, withOutcome, type Failure } from '../base/errors.js';
import { failpoint } from '../base/failpoint.js';
import { warnOnce } from '../base/logger.js';
import { secretAt } from '../base/passwords.js';
import type { Settings } from '../base/settings.js';
import { within } from '../base/timeout.js';
import { timed } from '../run/measurements.js';
import { numberEvents } from '../warehouse/events.js';
import * as warehouse from '../warehouse/relay.js';
import { openTransport } from './open.js';
import type { Fault, Transport } from './transport.js';

/** What a subscription was told of in a round. */
export type Told = Readonly<{ subscription: string; events: number }>;

/** A subscription as this process tells it: how, what is on its way, and after so many attempts that failed, when it is tried again. */
interface Line {
  readonly since: string;
  way?: { readonly url: string; readonly secret: string | null; readonly transport: Transport } | undefined;
  work?: Promise<void> | undefined;
  attempts: number;
  until: number;
}

/** Between these pauses, in seconds, what fails is tried again; what the receiver asks for may be longer, up to an hour. */
const PAUSES = { first: 1, longest: 300, asked: 3600 } as const;

/** Tells the subscriptions of events, each at its own pace: what one cannot take is no concern of the others. */
export class Relay {
  /** The session by which this process is the relay: where it ends, another process may be. */
  private database: Database | undefined;
  private readonly lines = new Map<string, Line>();
  private told: Told[] = [];
  private faults: Failure[] = [];

  /** @param patience for so many seconds at most a round waits for a subscription that is slow; without it until each is told of all there is */
  constructor(
    private readonly settings: Settings,
    private readonly patience?: number,
  ) {}

  /** Gives positions to new events, and tells of them. @throws what failed; the results of the others go with it */
  async round(signal: AbortSignal): Promise<readonly Told[]> {
    const database = this.connected();
    try {
      if (!(await warehouse.tryRelay(database))) return this.standBy();
      await numberEvents(database);
      const due = await warehouse.dueSubscriptions(database);
      await this.closeUnused(due);
      for (const each of due) this.serve(database, each, signal);
    } catch (error) {
      this.fault(database, error);
    }
    const work = Promise.all([...this.lines.values()].map((line) => line.work ?? Promise.resolve()));
    await (this.patience === undefined || signal.aborted ? work : within(this.patience, work).catch(() => undefined));
    return this.results();
  }

  /** Waits for what is on its way, and ends all connections. */
  async close(): Promise<void> {
    for (const { work } of this.lines.values()) await work;
    await this.closeUnused([]);
    await this.database?.end({ timeout: 5 });
  }

  /** The session of this relay; another one where it was cut, whose lock is lost with it. */
  private connected(): Database {
    if (this.database !== undefined) return this.database;
    const database = connect(this.settings.warehouse, 'relay', 1, undefined, () => this.lose(database));
    this.database = database;
    return database;
  }

  private lose(database: Database): void {
    if (this.database === database) this.database = undefined;
    database.end({ timeout: 0 }).catch(() => undefined);
  }

  private standBy(): readonly Told[] {
    const said = 'another relay tells the subscriptions of events';
    if (this.patience === undefined)
      throw new HeldError(said, { hint: 'nothing needs to be done: it tells all of them. This one ends' });
    warnOnce(said, `${said}: this one stands by`);
    return [];
  }

  /** Notes what the warehouse could not be asked. */
  private fault(database: Database, error: unknown): void {
    if (error instanceof HeldError) throw error;
    if (isAway(error)) this.lose(database);
    this.faults.push({ error: explainDatabaseError(error, this.settings.warehouse) });
  }

  /** What a subscription cannot be told for: its secret is not there, or the warehouse cannot render its events. */
  private explain(error: unknown): TidemarkError {
    const explained = explainDatabaseError(error, this.settings.warehouse);
    if (explained instanceof TidemarkError) return explained;
    return new TidemarkError((explained as Error).message, { cause: error });
  }

  private results(): readonly Told[] {
    const { told, faults: failures } = this;
    [this.told, this.faults] = [[], []];
    const [first, ...others] = failures;
    if (first === undefined) return told;
    const names = failures.flatMap(({ table }) => table ?? []).join(', ');
    const several = `${failures.length} subscriptions could not be told: ${names}`;
    const hint = '"npx tidemark events status" says why; the others were told';
    // What the warehouse could not be asked is no subscription's, and none of them says it.
    const ofWarehouse = failures.find(({ table }) => table === undefined) ?? (others.length === 0 ? first : undefined);
    const error = (ofWarehouse?.error as Error | undefined) ?? new TidemarkError(several, { hint });
    throw withOutcome(error, { result: told, failures });
  }

  /** Subscriptions that are gone, paused, stopped or begun anew need no connection, and no pause once they go on. */
  private async closeUnused(due: readonly warehouse.DueSubscription[]): Promise<void> {
    const isDue = (name: string, since: string) =>
      due.some((each) => each.subscription_name === name && each.told_since === since);
    for (const [name, { since, way, work }] of this.lines) {
      if (work !== undefined || isDue(name, since)) continue;
      this.lines.delete(name);
      await way?.transport.close();
    }
  }

  /** The secret is read each time: it may be another by now. */
  private async wayTo(line: Line, { target: url, secret: place }: warehouse.DueSubscription): Promise<Transport> {
    const secret = place === null ? null : secretAt(place);
    if (line.way?.url === url && line.way.secret === secret) return line.way.transport;
    await line.way?.transport.close();
    const mayBePrivate = this.settings.event_private_addresses === 'allow';
    const transport = openTransport({ url, secret, mayBePrivate });
    line.way = { url, secret, transport };
    return transport;
  }

  private serve(database: Database, due: warehouse.DueSubscription, signal: AbortSignal): void {
    const { subscription_name: name, told_since: since, acknowledged, last_position: last } = due;
    const line = this.lines.get(name) ?? { since, attempts: 0, until: 0 };
    this.lines.set(name, line);
    const isOther = line.since !== since;
    if (isOther || line.work !== undefined || performance.now() < line.until || Number(acknowledged) >= Number(last))
      return;
    line.work = this.tell(database, due, line, signal)
      .catch((error: unknown) => this.fault(database, error))
      .finally(() => (line.work = undefined));
  }

  /** Tells a subscription of all there is: with what was taken of a batch the next one is asked for. Says so where it cannot be told. */
  private async tell(database: Database, due: warehouse.DueSubscription, line: Line, signal: AbortSignal) {
    const { subscription_name: name, told_since: since } = due;
    let [position, noted, events] = [due.acknowledged, due.acknowledged, 0];
    let fault: Fault | undefined;
    let refused: string | null = null;
    try {
      const transport = await this.wayTo(line, due);
      while (fault === undefined && !signal.aborted && this.database === database) {
        const next = () => warehouse.nextEvents(database, name, since, noted, position, transport.most);
        const batch = await timed('read', next);
        noted = position;
        if (batch.length === 0) return;
        failpoint('publish');
        const outcome = await timed('publish', () => transport.publish(batch));
        failpoint('published');
        fault = outcome.fault;
        refused = batch[outcome.taken]?.event_position ?? null;
        position = batch[outcome.taken - 1]?.event_position ?? position;
        events += outcome.taken;
        if (outcome.taken > 0) line.attempts = 0;
      }
    } catch (error) {
      if (isAway(error)) throw error;
      fault = { error: this.explain(error), isFinal: false };
    } finally {
      if (events > 0) this.told.push({ subscription: name, events });
    }
    if (position !== noted) await warehouse.acknowledgeEvents(database, name, since, noted, position);
    if (fault !== undefined) await this.fail(database, name, line, fault, refused);
  }

  /** Notes why a subscription was not told: by an event that it refuses it is stopped, anything else is tried again after a pause. */
  private async fail(database: Database, name: string, line: Line, fault: Fault, refused: string | null) {
    const { error, isFinal, retry_seconds: asked = 0 } = fault;
    const said = [error.message, ...whereAndNext(error).map((part) => part.trim())].join('; ');
    await warehouse.noteDeliveryFault(database, name, line.since, said, isFinal ? refused : null);
    // One that is stopped begins when somebody says so.
    line.attempts = isFinal ? 0 : line.attempts + 1;
    // Cut at random, so that many who failed together do not come back together.
    const own = Math.min(PAUSES.longest, PAUSES.first * 2 ** line.attempts) * (0.5 + Math.random() / 2);
    const seconds = Math.min(PAUSES.asked, Math.max(own, asked));
    line.until = isFinal ? 0 : performance.now() + seconds * 1000;
    const what = `subscription ${name} ${isFinal ? 'is stopped' : 'could not be told'}: ${error.message}`;
    const { detail, hint } = error;
    this.faults.push({ table: name, error: new TidemarkError(what, { detail, hint, cause: error }) });
  }
}
