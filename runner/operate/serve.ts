import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Settings } from '../base/settings.js';
import { TidemarkError, describeError, hasCode } from '../base/errors.js';
import { logger } from '../base/logger.js';
import { isLocal } from '../embedded/servers.js';
import { askedOf } from './asked.js';
import { METRICS_TYPE, renderMetrics } from './metrics.js';
import { dimensionMappings } from '../warehouse/functions.js';

/** A server of metrics that listens. */
export interface MetricsServer {
  /** Where it is, for a browser. */
  readonly url: string;
  /** Ends it; answers under way are finished. */
  readonly close: () => Promise<unknown>;
}

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly type?: string;
}

/**
 * Serves /metrics (Prometheus), /healthz (this process is alive) and /readyz (the warehouse answers and is migrated), and nothing else.
 * @throws TidemarkError if the address cannot be had
 */
export async function serveMetrics(settings: Settings): Promise<MetricsServer> {
  const routes = routesOf(settings);
  const { metrics_host: host, metrics_port: wanted } = settings;
  const limits = { requestTimeout: 10_000, headersTimeout: 10_000, maxHeaderSize: 8192 };
  const server = createServer(limits, (request, response) => {
    void answer(request, routes, isLocal(host)).then((found) => {
      send(request, response, found);
    });
  });
  server.maxConnections = 100;
  await once(server.listen(wanted, host), 'listening').catch((error: unknown) => {
    const reason = hasCode(error, 'EADDRINUSE') ? 'another program listens there' : (error as Error).message;
    throw new TidemarkError(`the metrics cannot be served at ${host}:${String(wanted)}: ${reason}`, {
      cause: error,
      hint: 'set METRICS_HOST and METRICS_PORT to an address that is free',
    });
  });
  const { address, port, family } = server.address() as AddressInfo;
  return {
    url: `http://${family === 'IPv6' ? `[${address}]` : address}:${String(port)}`,
    close: () => once(server.close(), 'close'),
  };
}

type Routes = ReadonlyMap<string, () => Promise<Answer>>;

function routesOf(settings: Settings): Routes {
  const metrics = shared(async () => ({ status: 200, body: await renderMetrics(settings), type: METRICS_TYPE }));
  return new Map([
    ['/metrics', metrics],
    ['/healthz', () => Promise.resolve({ status: 200, body: 'alive\n' })],
    ['/readyz', shared(() => readiness(settings))],
  ]);
}

/** Those who ask while an answer is being made share it: many scrapers are no more work than one. */
function shared(make: () => Promise<Answer>): () => Promise<Answer> {
  let under: Promise<Answer> | undefined;
  return () =>
    (under ??= make().finally(() => {
      under = undefined;
    }));
}

const ANSWER_SECONDS = 4;

async function readiness({ warehouse }: Settings): Promise<Answer> {
  const asked = askedOf(warehouse, 'readiness', dimensionMappings, ANSWER_SECONDS);
  const { fault } = await asked.catch(() => ({ fault: 'the warehouse cannot be asked' }));
  return fault === null ? { status: 200, body: 'ready\n' } : { status: 503, body: `not ready: ${fault}\n` };
}

async function answer(request: IncomingMessage, routes: Routes, guarded: boolean): Promise<Answer> {
  const [path = ''] = (request.url ?? '').split('?');
  const route = routes.get(path);
  if (guarded && !isLocal(hostOf(request)))
    return { status: 403, body: 'this server is for its own machine: ask it by localhost\n' };
  if (route === undefined) return { status: 404, body: `there is ${[...routes.keys()].join(', ')}\n` };
  if (request.method !== 'GET' && request.method !== 'HEAD') return { status: 405, body: 'GET only\n' };
  try {
    return await route();
  } catch (error) {
    logger.error(describeError(error, logger.isLevelEnabled('debug')));
    return { status: 500, body: 'this could not be told; the log says why\n' };
  }
}

function send(
  request: IncomingMessage,
  response: ServerResponse,
  { status, body, type = 'text/plain; charset=utf-8' }: Answer,
): void {
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...(status === 405 ? { allow: 'GET, HEAD' } : {}),
  });
  response.end(request.method === 'HEAD' ? undefined : body);
}

/** The host a client believes it talks to: a page elsewhere that resolves its own name to this machine gives itself away by it. */
const hostOf = (request: IncomingMessage): string =>
  (request.headers.host ?? '').replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
