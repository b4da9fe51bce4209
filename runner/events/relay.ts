import { setTimeout as sleep } from 'node:timers/promises';
import { connect, explainDatabaseError, isAway, type Database } from '../base/database.js';
import { HeldError, TidemarkError, UsageError, describeError, withOutcome, type Failure } from '../base/errors.js';
import { failpoint } from '../base/failpoint.js';
import { logger } from '../base/logger.js';
import { secretAt } from '../base/secret.js';
import type { Settings } from '../base/settings.js';
import { timed } from '../run/measurements.js';
import { numberEvents } from '../warehouse/events.js';
import { dueSubscriptions, noteDeliveryFault, tryRelay, type DueSubscription } from '../warehouse/relay.js';
import { Offset } from './offset.js';
import { openTransport } from './open.js';
import type { Fault, Target, Transport } from './transport.js';

/** What a subscription was told of in a round. */
export interface Told {
  readonly subscription: string;
  readonly events: number;
}

/** A session by which this process is the relay: where it ends, another process may be. */
interface Session {
  readonly database: Database;
  isLost: boolean;
}

/** Between these pauses, in seconds, what fails is tried again; what the receiver asks for may be longer, up to an hour. */
const PAUSES = { first: 1, longest: 300, asked: 3600 } as const;

/** Tells the subscriptions of events, each at its own pace: what one cannot take is no concern of the others. */
export class Relay {
  private session: Session | undefined;
  private readonly ways = new Map<string, Pick<Target, 'url' | 'secret'> & { readonly transport: Transport }>();
  private readonly busy = new Map<string, Promise<void>>();
  private readonly waiting = new Map<string, { readonly attempts: number; readonly until: number }>();
  private told: Told[] = [];
  private faults: Failure[] = [];
  private isStandingBy = false;

  /** @param patience for so many seconds at most a round waits for a subscription that is slow; without it until each is told of all there is */
  constructor(
    private readonly settings: Settings,
    private readonly patience?: number,
  ) {}

  /** Gives positions to new events, and tells of them. @throws what failed; the results of the others go with it */
  async round(signal: AbortSignal): Promise<readonly Told[]> {
    const session = this.connected();
    try {
      if (!(await tryRelay(session.database))) return this.standBy();
      this.isStandingBy = false;
      await numberEvents(session.database);
      const due = await dueSubscriptions(session.database);
      await this.closeUnused(due);
      for (const each of due) this.serve(session, each, signal);
    } catch (error) {
      this.fault(session, error);
    }
    const work = Promise.all(this.busy.values());
    const over = new AbortController();
    const pause = () => sleep((this.patience ?? 0) * 1000, undefined, over).catch(() => undefined);
    await (this.patience === undefined || signal.aborted ? work : Promise.race([work, pause()]));
    over.abort();
    return this.results();
  }

  /** Waits for what is on its way, and ends all connections. */
  async close(): Promise<void> {
    await Promise.all(this.busy.values());
    await this.closeUnused([]);
    await this.session?.database.end({ timeout: this.session.isLost ? 0 : 5 });
  }

  /** The session of this relay; another one where it was cut, whose lock is lost with it. */
  private connected(): Session {
    if (this.session?.isLost === false) return this.session;
    this.session?.database.end({ timeout: 0 }).catch(() => undefined);
    const onEnd = () => {
      session.isLost = true;
    };
    const database = connect(this.settings.warehouse, 'relay', 1, undefined, onEnd);
    const session: Session = { database, isLost: false };
    this.session = session;
    return session;
  }

  private standBy(): readonly Told[] {
    const said = 'another relay tells the subscriptions of events';
    if (this.patience === undefined)
      throw new HeldError(said, { hint: 'nothing needs to be done: it tells all of them. This one ends' });
    if (!this.isStandingBy) logger.info(`${said}: standing by`);
    this.isStandingBy = true;
    return [];
  }

  /** Notes what the warehouse could not be asked. */
  private fault(session: Session, error: unknown): void {
    if (error instanceof HeldError) throw error;
    session.isLost ||= isAway(error);
    this.faults.push({ error: explainDatabaseError(error, this.settings.warehouse) });
  }

  private results(): readonly Told[] {
    const { told, faults: failures } = this;
    [this.told, this.faults] = [[], []];
    const [first] = failures;
    if (first === undefined) return told;
    const names = failures.flatMap(({ table }) => table ?? []);
    const error =
      failures.length === 1
        ? (first.error as Error)
        : new TidemarkError(`${String(names.length)} subscriptions could not be told: ${names.join(', ')}`, {
            hint: '"npx tidemark events status" says why; the others were told',
          });
    throw withOutcome(error, { result: told, failures });
  }

  /** Subscriptions that are gone, paused or stopped need no connection, and no pause once they go on. */
  private async closeUnused(due: readonly DueSubscription[]): Promise<void> {
    const used = new Set(due.map(({ subscription_name: name }) => name));
    for (const name of new Set([...this.ways.keys(), ...this.waiting.keys()])) {
      if (used.has(name) || this.busy.has(name)) continue;
      this.waiting.delete(name);
      await this.closeWay(name);
    }
  }

  private async closeWay(name: string): Promise<void> {
    const way = this.ways.get(name);
    this.ways.delete(name);
    await way?.transport.close();
  }

  /** The secret is read each time: it may be another by now. */
  private async wayTo({ subscription_name: name, target: url, secret: place }: DueSubscription): Promise<Transport> {
    const secret = place === null ? null : secretAt(place);
    const known = this.ways.get(name);
    if (known?.url === url && known.secret === secret) return known.transport;
    await this.closeWay(name);
    const mayBePrivate = this.settings.event_private_addresses === 'allow';
    const transport = openTransport({ url, secret, mayBePrivate });
    this.ways.set(name, { url, secret, transport });
    return transport;
  }

  private serve(session: Session, due: DueSubscription, signal: AbortSignal): void {
    const { subscription_name: name, acknowledged, last_position: last } = due;
    const isEarly = performance.now() < (this.waiting.get(name)?.until ?? 0);
    if (this.busy.has(name) || isEarly || Number(acknowledged) >= Number(last)) return;
    const work = this.tell(session, due, signal)
      .catch((error: unknown) => {
        this.fault(session, error);
      })
      .finally(() => this.busy.delete(name));
    this.busy.set(name, work);
  }

  /** Tells a subscription of all there is, and says so where it cannot be told. */
  private async tell(session: Session, due: DueSubscription, signal: AbortSignal): Promise<void> {
    const { subscription_name: name } = due;
    const subscription = new Offset(session.database, due);
    try {
      const transport = await this.wayTo(due);
      while (!signal.aborted && !session.isLost) {
        const batch = await subscription.next(transport.most);
        if (batch === undefined) return;
        failpoint('publish');
        const outcome = await timed('publish', () => transport.publish(batch));
        failpoint('published');
        subscription.taken(batch, outcome.taken);
        if (outcome.fault !== undefined)
          return await this.fail(subscription, name, outcome.fault, batch[outcome.taken]?.position);
        this.waiting.delete(name);
      }
      await subscription.keep();
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      await this.fail(subscription, name, { error, isFinal: false });
    } finally {
      if (subscription.events > 0) this.told.push({ subscription: name, events: subscription.events });
    }
  }

  /** Notes why a subscription was not told: by an event that it refuses it is stopped, anything else is tried again after a pause. */
  private async fail(offset: Offset, name: string, { error, isFinal, retry_seconds: asked }: Fault, position?: string) {
    await offset.keep();
    const [message, ...rest] = describeError(error, false)
      .replace(/^error: /, '')
      .split(/\n +/);
    const said = [message, ...rest].join('; ');
    await noteDeliveryFault(offset.database, name, said, isFinal ? (position ?? null) : null);
    const attempts = (this.waiting.get(name)?.attempts ?? 0) + 1;
    // Cut at random, so that many who failed together do not come back together.
    const own = Math.min(PAUSES.longest, PAUSES.first * 2 ** attempts) * (0.5 + Math.random() / 2);
    const seconds = Math.min(PAUSES.asked, Math.max(own, asked ?? 0));
    // One that is stopped begins when somebody says so.
    if (isFinal) this.waiting.delete(name);
    else this.waiting.set(name, { attempts, until: performance.now() + seconds * 1000 });
    const { detail, hint } = error;
    const what = `subscription ${name} ${isFinal ? 'is stopped' : 'could not be told'}: ${error.message}`;
    this.faults.push({ table: name, error: new TidemarkError(what, { detail, hint, cause: error }) });
  }
}
