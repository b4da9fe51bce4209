import { pipeline } from 'node:stream/promises';
import type { Database, Transaction } from './database.js';

/**
 * Sends what a statement of COPY prints to a stream, no faster than that takes it.
 * Where the stream fails, or takes no more, the session is ended: the server would print on, and nothing else could be asked of it.
 * @param session of `database`
 * @throws what the stream threw
 */
export async function copyOut(
  database: Database,
  session: Database | Transaction,
  copy: string,
  out: NodeJS.WritableStream,
  options: { readonly end?: boolean; readonly signal?: AbortSignal | undefined } = {},
): Promise<void> {
  const lines = await session.unsafe(copy).readable();
  await pipeline(lines, out, options).catch(async (error: unknown) => {
    await database.end({ timeout: 0 });
    throw error;
  });
  // The driver lets the connection rest while the stream is full, and go on when it is read: at its end nobody reads it any more.
  lines._read(0);
}
