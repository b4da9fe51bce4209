import { watch, type FSWatcher } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode } from '../base/errors.js';
import { warnOnce } from '../base/logger.js';
import type { ChangeLog } from './chain.js';
import { chainsHere, loggedTables } from './inspect.js';

/**
 * Wakes who waits for batches, as soon as a checkpoint is published. It only saves waiting: where nothing can be watched (a folder that is made
 * later, one of another machine, a limit of the system) all is looked at when it is time.
 */
export class ChangeLogWatch {
  private watchers: { readonly table: string; readonly watcher: FSWatcher }[] = [];
  private readonly fresh = new Set<string>();
  private due = -Infinity;
  private ring: () => void = () => undefined;

  /** @param intervalMs after so long all is looked at, whatever was seen */
  constructor(
    private readonly root: string,
    private readonly intervalMs: number,
  ) {}

  /**
   * The tables that have new checkpoints, each told of once; undefined where it is time to look at all. That it is once an interval, also
   * where the look fails before it has begun.
   */
  take(): ReadonlySet<string> | undefined {
    const taken = new Set(this.fresh);
    this.fresh.clear();
    const now = performance.now();
    if (now < this.due) return taken;
    this.due = now + this.intervalMs;
    return undefined;
  }

  /** Watches the change logs that there are now; to be called before they are looked at. */
  async follow(isWanted: (table: string) => boolean): Promise<void> {
    const before = this.watchers;
    this.watchers = [];
    for (const table of (await loggedTables(this.root)).filter(isWanted))
      for (const log of await chainsHere(this.root, table)) this.open(log);
    // The new ones are there first: nothing is missed, nor seen in the place of a folder that was made anew.
    for (const { watcher } of before) watcher.close();
  }

  private open({ table, checkpoints }: ChangeLog): void {
    const fail = (error: unknown) => {
      if (hasCode(error, 'ENOENT', 'ENOTDIR')) return;
      const { message } = error as Error;
      warnOnce('watch', `changes of the change log cannot be watched (${message}): it is looked at every interval`);
    };
    try {
      const watcher = watch(checkpoints, (_, name) => {
        if (!/^[0-9]+\.json$/.test(name ?? '')) return;
        this.fresh.add(table);
        this.ring();
      });
      watcher.on('error', fail);
      this.watchers.push({ table, watcher });
    } catch (error) {
      fail(error);
    }
  }

  /** Resolves once a checkpoint was published since the last look, or it is time to look at all. */
  async wait(signal: AbortSignal): Promise<void> {
    if (this.fresh.size > 0 || signal.aborted) return;
    const woken = new AbortController();
    this.ring = () => woken.abort();
    const either = AbortSignal.any([signal, woken.signal]);
    await sleep(Math.max(0, this.due - performance.now()), undefined, { signal: either }).catch(() => undefined);
  }

  /** These tables, or all, wake nobody any more until all is looked at again. */
  leave(tables?: readonly string[]): void {
    const isLeft = (table: string) => tables?.includes(table) ?? true;
    for (const { table, watcher } of this.watchers) if (isLeft(table)) watcher.close();
    this.watchers = this.watchers.filter(({ table }) => !isLeft(table));
    for (const table of [...this.fresh].filter(isLeft)) this.fresh.delete(table);
  }
}
