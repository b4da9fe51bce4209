import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener } from 'node:http';
import { isIPv4, type AddressInfo } from 'node:net';
import { TidemarkError, hasCode } from './errors.js';

/** A server that listens. */
export interface Listening {
  /** Where it is, for a browser. */
  readonly url: string;
  /** Ends it; answers under way are finished. */
  readonly close: () => Promise<unknown>;
}

/** Whether a name or address is that of this machine alone. */
export function isLocal(host: string): boolean {
  return host.toLowerCase() === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'));
}

/**
 * Serves at an address, with limits on how long a request may take to come, how large its head may be and how many come at once.
 * @param what what is served, and the two settings of its address, for the error
 * @throws TidemarkError if the address cannot be had
 */
export async function listenAt(
  host: string,
  port: number,
  what: { readonly name: string; readonly hint: string },
  listener: RequestListener,
): Promise<Listening> {
  const limits = { requestTimeout: 10_000, headersTimeout: 10_000, maxHeaderSize: 8192 };
  const server = createServer(limits, listener);
  server.maxConnections = 100;
  await once(server.listen(port, host), 'listening').catch((error: unknown) => {
    const reason = hasCode(error, 'EADDRINUSE') ? 'another program listens there' : (error as Error).message;
    throw new TidemarkError(`${what.name} cannot be served at ${host}:${port}: ${reason}`, {
      cause: error,
      hint: what.hint,
    });
  });
  const { address, port: taken, family } = server.address() as AddressInfo;
  return {
    url: `http://${family === 'IPv6' ? `[${address}]` : address}:${taken}`,
    close: async () => {
      const closed = once(server.close(), 'close');
      server.closeIdleConnections();
      await closed;
    },
  };
}

/** What a server that is for its own machine answers to others. */
export const FOREIGN = 'this server is for its own machine: ask it by localhost\n';

/** Whether a client believes that it talks to this machine: a page elsewhere that resolves its own name to this machine gives itself away. */
export const asksLocally = (request: IncomingMessage): boolean =>
  isLocal((request.headers.host ?? '').replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1'));
