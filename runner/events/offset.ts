import type { Database } from '../base/database.js';
import { timed } from '../run/measurements.js';
import { acknowledgeEvents, readSubscription, type DueSubscription } from '../warehouse/relay.js';
import type { Event } from './transport.js';

/**
 * How far a subscription was told, as this process knows it and as the warehouse has it noted. Where a batch ends is noted before it is sent, by
 * the statement that moves the offset past the one before: so one that is sent again, after a crash too, is the same.
 */
export class Offset {
  /** How many events were taken by now. */
  events = 0;
  private noted: string;
  private position: string;
  private batchEnd: string | null;

  constructor(
    readonly database: Database,
    private readonly due: DueSubscription,
  ) {
    this.noted = this.position = due.acknowledged;
    this.batchEnd = due.batch_end;
  }

  /** The batch to be sent now, of `most` events unless one was noted already; undefined where nothing is left, or somebody else moved the offset. */
  async next(most: number): Promise<readonly Event[] | undefined> {
    const { subscription_name: name, last_position: last } = this.due;
    const { position, batchEnd } = this;
    const batch = await timed('read', () => readSubscription(this.database, name, position, most, batchEnd));
    const end = batch.at(-1)?.event_position;
    if (end === undefined) {
      // What it does not want counts as told.
      this.position = this.batchEnd ?? (Number(last) > Number(this.position) ? last : this.position);
      await this.note(null);
      if (this.batchEnd === null) return undefined;
      this.batchEnd = null;
      return this.next(most);
    }
    this.batchEnd = null;
    return (await this.note(end)) ? batch.map(asEvent) : undefined;
  }

  /** Of the batch these were taken, counted from the first. */
  taken(batch: readonly Event[], count: number): void {
    this.position = batch[count - 1]?.position ?? this.position;
    this.events += count;
  }

  /** Notes what was taken; one of which nothing was, stays noted as it is. */
  async keep(): Promise<void> {
    if (this.position !== this.noted) await this.note(null);
  }

  private async note(batchEnd: string | null): Promise<boolean> {
    const { database, position, noted } = this;
    const ask = () => acknowledgeEvents(database, this.due.subscription_name, position, noted, batchEnd);
    const isOurs = await timed('note', ask);
    this.noted = this.position;
    return isOurs;
  }
}

const asEvent = (row: Awaited<ReturnType<typeof readSubscription>>[number]): Event => ({
  position: row.event_position,
  id: row.event_id,
  key: row.partition_key,
  routing_key: `${row.dimension_name}.${row.kind}`,
  document: row.event,
});
