import type { Settings } from '../base/settings.js';

/** Between what the size of a batch moves, and how long a batch may take and still count as quick. */
export type SizeLimits = Readonly<Record<'least' | 'most' | 'target_seconds', number>>;

/** What the settings name no BATCH_SIZE_MAX for grows as far as this. */
const MOST_BY_DEFAULT = 10_000;

/** The limits that the settings name. A BATCH_SIZE_MAX of BATCH_SIZE fixes the size, where BATCH_SIZE_MIN is not below it. */
export function sizeLimits({ batch_size, batch_size_min, batch_size_max, batch_target_seconds }: Settings): SizeLimits {
  return {
    least: batch_size_min ?? batch_size,
    most: batch_size_max ?? Math.max(MOST_BY_DEFAULT, batch_size),
    target_seconds: batch_target_seconds,
  };
}
