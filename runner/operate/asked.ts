import { withDatabase } from '../base/database.js';
import { TidemarkError } from '../base/errors.js';
import type { DatabaseSettings } from '../base/settings.js';

/** What a database answered, or else what is wrong. */
export type Answer<T> = Readonly<{ answer?: T; fault: string | null }>;

/** Asks a database that may be away. It counts as away where it has not answered within so many seconds. */
export async function askedOf<T>(
  end: DatabaseSettings,
  application: string,
  question: Parameters<typeof withDatabase<T>>[2],
  seconds: number,
): Promise<Answer<T>> {
  try {
    return { answer: await withDatabase(end, application, question, seconds), fault: null };
  } catch (error) {
    if (error instanceof TidemarkError) return { fault: error.message };
    throw error;
  }
}
