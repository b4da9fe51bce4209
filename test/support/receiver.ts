import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A request that a receiver of webhooks was sent. */
export interface Received {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export interface Receiver {
  /** Where it is: an address of this machine. */
  readonly url: string;
  readonly requests: Received[];
  /** Its answers from now on: a status, or what it does. */
  readonly answer: (how: number | ((request: Received, response: ServerResponse) => void)) => void;
  readonly close: () => Promise<unknown>;
}

/** Starts a receiver of webhooks, which takes everything unless told otherwise. */
export async function startReceiver(): Promise<Receiver> {
  const requests: Received[] = [];
  let respond = (_: Received, response: ServerResponse): void => void response.writeHead(204).end();
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const received = { path: request.url ?? '', headers: request.headers, body: Buffer.concat(chunks).toString() };
      requests.push(received);
      respond(received, response);
    });
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return {
    url: `http://127.0.0.1:${String((server.address() as AddressInfo).port)}/events`,
    requests,
    answer: (how) => {
      respond = typeof how === 'function' ? how : (_, response) => void response.writeHead(how).end();
    },
    close: () => {
      const closed = once(server.close(), 'close');
      server.closeAllConnections();
      return closed;
    },
  };
}
