import { EventEmitter, once } from 'node:events';
import { connect, type Database } from '../../runner/base/database.js';
import type { DatabaseSettings } from '../../runner/base/settings.js';
import { inTransaction } from '../../runner/base/transaction.js';

/** Loads in sessions of their own, at once, or ended by the server in the middle: what is seen of each is an event, and nobody sleeps. */

export interface Delivery {
  readonly load: number;
  /** After how many of its commits its session ends; null where it does not. */
  readonly ended: number | null;
}

/** A transaction that has done its work when it is `done`, and commits when it is told to. */
interface Held {
  readonly pid: number;
  readonly isDone: () => boolean;
  readonly done: Promise<unknown>;
  /** Whether it committed. */
  readonly end: () => Promise<boolean>;
}

/** Calls a function of the adapter, in a transaction that is held. */
async function hold(session: Database, name: string, load: number): Promise<Held> {
  const [{ pid }] = await session<[{ pid: number }]>`select pg_backend_pid() as pid`;
  const turn = new EventEmitter();
  const [worked, mayCommit] = [once(turn, 'worked'), once(turn, 'commit')];
  const committed = inTransaction(session, 'isolation level read committed', async (transaction) => {
    await transaction`select torture.${transaction(name)}(${load}::integer)`;
    turn.emit('worked');
    await mayCommit;
  }).then(
    () => true,
    () => false,
  );
  let isDone = false;
  const done = Promise.race([worked, committed]).then(() => (isDone = true));
  const end = () => {
    turn.emit('commit');
    return committed;
  };
  return { pid, isDone: () => isDone, done, end };
}

/** Until it has done its work, or waits for a lock that another session has. */
async function untilHeld(control: Database, { pid, isDone }: Held): Promise<void> {
  for (let isWaiting = false; !isWaiting && !isDone(); ) {
    const [found] = await control<
      [{ is_waiting: boolean }]
    >`select cardinality(pg_blocking_pids(${pid})) > 0 as is_waiting`;
    isWaiting = found.is_waiting;
  }
}

/** Ends a transaction that is held, by its commit, or its session before that. Whether it went as it was to go. */
async function endOf(control: Database, held: Held, isEnded: boolean): Promise<boolean> {
  await held.done;
  if (isEnded) await control`select pg_terminate_backend(${held.pid}, 60000)`;
  return (await held.end()) !== isEnded;
}

/**
 * Runs the loads of a step: each is called when those before it have done their work or wait for another, and none commits before all have
 * come so far; then they do in their order, and what follows them (`follows`: torture.follow) comes after that.
 * @returns whether each went well, but for those that were ended
 */
export async function atOnce(
  control: Database,
  settings: DatabaseSettings,
  deliveries: readonly Delivery[],
  follows: boolean,
): Promise<boolean> {
  const open: { session: Database; held: Held; delivery: Delivery }[] = [];
  let isWell = true;
  try {
    for (const delivery of deliveries) {
      const session = connect(settings, 'torture');
      const held = await hold(session, 'load', delivery.load);
      open.push({ session, held, delivery });
      await untilHeld(control, held);
    }
    const following: typeof open = [];
    for (const each of open) {
      const hasGone = await endOf(control, each.held, each.delivery.ended === 0);
      if (hasGone && each.delivery.ended !== 0) following.push(each);
      isWell &&= hasGone;
    }
    for (const { session, delivery } of follows ? following : [])
      isWell = (await endOf(control, await hold(session, 'follow', delivery.load), delivery.ended === 1)) && isWell;
  } finally {
    await Promise.all(open.map(({ session }) => session.end({ timeout: 5 })));
  }
  return isWell;
}
