import type { IncomingMessage, ServerResponse } from 'node:http';
import { explainDatabaseError, isAway } from '../base/database.js';
import { TidemarkError, UsageError, describeError, hasCode } from '../base/errors.js';
import { FOREIGN, asksLocally, isLocal, listenAt, type Listening } from '../base/http.js';
import { logger } from '../base/logger.js';
import type { Settings } from '../base/settings.js';
import { dimensionMappings } from '../warehouse/functions.js';
import { formatOf, writeList } from './export.js';
import { duration, markup, value, type Raw } from './html.js';
import { PageError, assetText, document, type Asked } from './page.js';
import { act } from './pages/act.js';
import { filtersOf } from './pages/table.js';
import { routeOf } from './routes.js';
import { ACTION_SECONDS, STATEMENT_SECONDS, reading } from './session.js';
import { doorOf, fieldsOf, type Door, type Visitor } from './token.js';

/** Scripts and styles are files of this server and nothing else; nothing may frame it, and its forms post to itself. */
const HEADERS = {
  'content-security-policy':
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
  'cache-control': 'no-store',
  // With none, a browser would not say either from where a form is sent.
  'referrer-policy': 'same-origin',
  'x-content-type-options': 'nosniff',
} as const;

const asset = (name: string, type: string) => ({ type, text: assetText(name) });

/**
 * Serves the console: pages of what the warehouse holds, which cannot write, and actions where CONSOLE_ALLOW_ACTIONS allows them.
 * @param token one that was made up, where no file names any
 * @throws TidemarkError if the address cannot be had; UsageError for one beyond this machine without a token, or actions without one
 */
export async function serveConsole(settings: Settings, token?: string): Promise<Listening> {
  const { console_host: host, console_port: port } = settings;
  if (mayAct(settings) && settings.console_token_file === undefined && token === undefined)
    throw new UsageError('the console is to act, and CONSOLE_TOKEN_FILE is not set', {
      hint: 'name a file with a token that who acts must give: it says who did what. On a terminal, "tidemark console --allow-actions" makes one up',
    });
  if (!isLocal(host) && settings.console_token_file === undefined)
    throw new UsageError(`CONSOLE_HOST is ${host}, which others can reach, and CONSOLE_TOKEN_FILE is not set`, {
      hint: 'name a file with a token that who looks must give, or set CONSOLE_HOST to 127.0.0.1',
    });
  const assets = new Map([
    ['/console.css', asset('console.css', 'text/css; charset=utf-8')],
    ['/console.js', asset('console.js', 'text/javascript; charset=utf-8')],
    ['/icon.svg', asset('icon.svg', 'image/svg+xml')],
  ]);
  const door = doorOf(settings, token);
  const what = { name: 'the console', hint: 'set CONSOLE_PORT, or give --port, one that is free' };
  return listenAt(host, port, what, (request, response) => {
    const [file, visitor] = [assets.get(request.url ?? ''), door.visitorOf(request)];
    const isPost = request.method === 'POST';
    const answered = async () => {
      if (isLocal(host) && !asksLocally(request)) refuse(response, 403, FOREIGN);
      else if (isPost && request.url === '/login' && door.cookieFor) await enter(door.cookieFor, request, response);
      else if (!isRead(request) && !(isPost && mayAct(settings) && /^\/t\/\w+\/act$/.test(request.url ?? '')))
        refuse(response, 405, 'GET only\n');
      else if (file !== undefined) response.writeHead(200, { ...HEADERS, 'content-type': file.type }).end(file.text);
      else if (visitor === undefined) send(request, response, 401, locked('this console wants its token'));
      else await answer(settings, visitor, request, response);
    };
    answered().catch((error: unknown) => {
      logger.error(describeError(error, logger.isLevelEnabled('debug')));
      response.destroy();
    });
  });
}

const mayAct = ({ console_allow_actions: allowed }: Settings): boolean => allowed === 'yes';
const isRead = ({ method }: IncomingMessage): boolean => method === 'GET' || method === 'HEAD';

function refuse(response: ServerResponse, status: number, text: string): void {
  const allow = status === 405 ? { allow: 'GET, HEAD' } : {};
  response.writeHead(status, { ...HEADERS, 'content-type': 'text/plain; charset=utf-8', ...allow }).end(text);
}

const LOCKED = 'it is in the file that CONSOLE_TOKEN_FILE names, or on the terminal where the console runs';
const locked = (message: string) => plainPage(new PageError(401, message, LOCKED), LOGIN);
const LOGIN = markup`<form class="moment" method="post" action="/login">
<input autocomplete="username" value="tidemark" hidden><label>token
<input type="password" name="token" autocomplete="current-password" required></label><button>Enter</button></form>`;

async function enter(cookieFor: NonNullable<Door['cookieFor']>, request: IncomingMessage, response: ServerResponse) {
  const cookie = cookieFor((await fieldsOf(request))?.get('token') ?? '');
  if (cookie === undefined) return send(request, response, 401, locked('that is not the token'));
  lead(response, '/', { 'set-cookie': cookie });
}

const lead = (response: ServerResponse, location: string, headers = {}): void =>
  void response.writeHead(303, { ...HEADERS, ...headers, location }).end();

/** The overview as it was when it was last told, for when the warehouse is away. */
let lastOverview: { readonly body: Raw; readonly at: number } | undefined;

async function answer(settings: Settings, visitor: Visitor, request: IncomingMessage, response: ServerResponse) {
  const asIsGiven = `http://console${request.url ?? '/'}`;
  const url = new URL(URL.canParse(asIsGiven) ? asIsGiven : 'http://console/?');
  const { path: asIs, format } = formatOf(url.pathname);
  const address = asIs === '/index' ? '/' : asIs;
  const found = routeOf(address, mayAct(settings));
  const began = performance.now();
  try {
    if (found === undefined) throw new PageError(404, 'there is no such page', 'the overview leads to those there are');
    const { route, table } = found;
    if (request.method === 'POST')
      return lead(response, await act({ settings, table, visitor }, await fieldsOf(request)));
    await reading(settings, async (session) => {
      const tables = (await dimensionMappings(session.warehouse)).map(({ dimension_name: name }) => name);
      if (table !== '' && !tables.includes(table)) throw unknownTable(table, tables);
      const from = request.socket.remoteAddress?.replace('::ffff:', '') ?? '';
      const who = { session, visitor, isLocal: isLocal(from) && asksLocally(request) };
      const asked: Asked = { settings, path: address, table, query: url.searchParams, ...who };
      const to = await route.redirect?.(asked);
      if (to !== undefined) return lead(response, to);
      if (format !== undefined) {
        const told = (error: unknown) => faultOf(error, settings).message;
        return writeList(response, format, await route.list(asked), settings.console_export_rows, HEADERS, told);
      }
      const page = await route.page(asked);
      if (address === '/') lastOverview = { body: page.body, at: Date.now() };
      return send(request, response, 200, document(page, asked, tables));
    });
    // The name of a route: no key and no filter of an address is logged.
    logger.debug({ page: route.name, ms: Math.round(performance.now() - began) }, 'served');
  } catch (error) {
    if (response.headersSent) throw error;
    const fault = faultOf(error, settings, Object.keys(filtersOf(url.searchParams)), address.endsWith('/act'));
    // What a server says may have values in it.
    if (fault.status >= 500 && error instanceof Error && 'code' in error)
      logger.error({ page: found?.route.name, code: error.code }, fault.message);
    else if (fault.status >= 500) logger.error(describeError(error, logger.isLevelEnabled('debug')));
    if (format !== undefined) refuse(response, fault.status, `${fault.message}: ${fault.hint ?? ''}\n`);
    else send(request, response, fault.status, plainPage(fault, address === '/' ? lastKnown(fault) : undefined));
  }
}

const lastKnown = ({ status }: PageError): Raw | undefined =>
  status !== 503 || lastOverview === undefined
    ? undefined
    : markup`<p class="past-banner">The overview of ${duration((Date.now() - lastOverview.at) / 1000)} ago:</p>
<div class="stale">${lastOverview.body}</div>`;

function send(request: IncomingMessage, response: ServerResponse, status: number, { raw }: Raw): void {
  response.writeHead(status, {
    ...HEADERS,
    'content-type': 'text/html; charset=utf-8',
    'content-length': Buffer.byteLength(raw),
  });
  response.end(request.method === 'HEAD' ? undefined : raw);
}

const unknownTable = (table: string, tables: readonly string[]): PageError =>
  new PageError(
    404,
    `there is no table ${table.slice(0, 63)}`,
    tables.length === 0 ? 'none is registered: npx tidemark add' : `there is ${tables.join(', ')}`,
  );

/** What is said of an error: never what the server said, in which values may stand. */
function faultOf(error: unknown, settings: Settings, filtered: readonly string[] = [], isAction = false): PageError {
  if (error instanceof PageError) return error;
  if (hasCode(error, '57014', '55P03'))
    return new PageError(
      504,
      `this takes longer than ${isAction ? ACTION_SECONDS : STATEMENT_SECONDS} seconds`,
      isAction
        ? 'nothing was done: a loader holds the table, or it is much. npx tidemark does the same without a limit of time'
        : `narrow it: a shorter time, fewer filters, or a filter on the key. ${filtered.length > 0 ? `An index of the history on ${filtered.join(', ')} helps` : 'The indexes of npx tidemark add --browse help to find moments'}`,
    );
  if (hasCode(error, '42501')) {
    const [does, role] = isAction ? ['acts', 'loader'] : ['reads', 'analyst'];
    const message = `the role that ${does} for this console has no right to this`;
    return new PageError(403, message, `npx tidemark grants --apply gives the ${role} what it needs`);
  }
  const explained = explainDatabaseError(error, settings.console ?? settings.warehouse);
  if (explained instanceof TidemarkError) {
    const { message, hint = '' } = explained;
    // It was pruned: from which moment on it can be told is all that this says.
    if (hasCode(error, 'TM028')) return new PageError(410, message, hint);
    const whole = 'an action is done whole or not at all: once the warehouse is back, /work says which';
    if (isAway(error) || isAway(explained)) return new PageError(503, message, isAction ? whole : hint);
    if (isAction && explained.code?.startsWith('TM') === true) return new PageError(409, message, hint);
    if (hasCode(error, '42P01', '3F000', '42883'))
      return new PageError(503, 'the warehouse is not what this release expects', 'npx tidemark migrate');
  }
  return new PageError(500, 'this could not be told', 'the log of the console says why');
}

/** A page that needs no warehouse. */
const plainPage = ({ message: title, hint }: PageError, more?: Raw): Raw => markup`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title} · Tidemark</title><link rel="stylesheet" href="/console.css"><link rel="icon" href="/icon.svg"></head>
<body><header><a class="mark" href="/"><img src="/icon.svg" alt="" width="20" height="20">Tidemark</a></header>
<main id="main"><h1>${value(title, 300)}</h1><p class="lead">${value(hint, 500)}</p><p><a href="/">Overview</a></p>${more}</main></body></html>
`;
