import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Settings } from '../base/settings.js';
import { describeError } from '../base/errors.js';
import { FOREIGN, asksLocally, isLocal, listenAt, type Listening } from '../base/http.js';
import { logger } from '../base/logger.js';
import { askedOf } from './asked.js';
import { METRICS_TYPE, renderMetrics } from './metrics.js';
import { dimensionMappings } from '../warehouse/functions.js';

type Answer = Readonly<{ status: number; body: string; type?: string }>;

/**
 * Serves /metrics (Prometheus), /healthz (this process is alive) and /readyz (the warehouse answers and is migrated), and nothing else.
 * @throws TidemarkError if the address cannot be had
 */
export async function serveMetrics(settings: Settings): Promise<Listening> {
  const routes = routesOf(settings);
  const { metrics_host: host, metrics_port: port } = settings;
  const what = { name: 'the metrics', hint: 'set METRICS_HOST and METRICS_PORT to an address that is free' };
  return listenAt(host, port, what, (request, response) => {
    void answer(request, routes, isLocal(host)).then((found) => send(request, response, found));
  });
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
  if (guarded && !asksLocally(request)) return { status: 403, body: FOREIGN };
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
