import type { ChangeLog } from './chain.js';
import { compressApplied, removeAbandoned, uncompressed } from './applied.js';
import { TidemarkError, describeError } from '../base/errors.js';
import { logger } from '../base/logger.js';

/** Looks after applied batches while others are being applied. What goes wrong here is said and tried again by the next run: no load fails for it. */
export interface Archive {
  /** Compresses one more applied batch, by its file name, after those before it. */
  readonly add: (name: string) => void;
  /** Waits for the rest, then compresses what an earlier run left behind. */
  readonly finish: () => Promise<void>;
}

export function startArchive(log: ChangeLog): Archive {
  let work = Promise.resolve();
  const then = (step: () => Promise<void>) => {
    work = work.then(step).catch((error: unknown) => {
      if (!(error instanceof TidemarkError)) throw error;
      logger.warn({ table: log.table }, `applied batches could not be looked after: ${describeError(error, false)}`);
    });
    // Whoever finishes hears of it; until then it is not unhandled.
    work.catch(() => undefined);
  };
  return {
    add: (name) => { then(() => compressApplied(log, name)); },
    finish: async () => {
      then(async () => {
        await removeAbandoned(log, Date.now());
        for (const name of await uncompressed(log)) await compressApplied(log, name);
      });
      await work;
    },
  };
}
