import { createHash, randomUUID, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { UsageError } from '../base/errors.js';
import { readNamedFile } from '../base/named-file.js';
import type { Settings } from '../base/settings.js';

/** How often a wrong token may be given, by anybody, in a minute. */
const TRIES = 10;
const MOST_BYTES = 8192;

const digest = (text: string) => createHash('sha256').update(text).digest();

export interface Visitor {
  /** Whose token it is. */
  readonly who: string;
  /** What each form of theirs brings, so that no page elsewhere can send one. */
  readonly form: string;
}

/** Who may look: whoever gives a token, as a bearer or once in the form, where there is one to give. */
export interface Door {
  readonly visitorOf: (request: IncomingMessage) => Visitor | undefined;
  /** What the form brought: the cookie to set, or undefined where it is no token, or too many were tried. There is no form without a token. */
  readonly cookieFor?: (given: string) => string | undefined;
}

/** The tokens of a file, a line each: "name: token", or a token alone. */
function tokensIn(file: string): { who: string; wanted: Buffer }[] {
  const lines = readNamedFile('CONSOLE_TOKEN_FILE names a file that', file, MOST_BYTES).split(/\r?\n/);
  const tokens = lines.filter((line) => line.trim() !== '').map((line) => /^(?:([\w.@-]+): )?(.+)$/.exec(line));
  if (tokens.length === 0)
    throw new UsageError(`CONSOLE_TOKEN_FILE names a file without a token: ${file}`, {
      hint: 'write one line into it, or "name: token" for each of several people',
    });
  return tokens.map((found) => ({ who: found?.[1] ?? 'console', wanted: digest(found?.[2] ?? '') }));
}

/** @param madeUp a token for where no file names one @throws UsageError for a file that cannot be used */
export function doorOf({ console_token_file: file, console_port: port }: Settings, madeUp?: string): Door {
  if (file === undefined && madeUp === undefined) return { visitorOf: () => ({ who: '', form: '' }) };
  const tokens = file === undefined ? [{ who: 'console', wanted: digest(madeUp ?? '') }] : tokensIn(file);
  /** Who is inside, by their session or their bearer: they are so whatever others try. */
  const inside = new Map<string, string>();
  const secret = randomUUID();
  // A browser sends it to every port of a machine: two consoles there have each their own.
  const cookie = `tidemark_console_${port}`;
  let tried: number[] = [];
  const enter = (token: string, session: string): string | undefined => {
    tried = tried.filter((at) => at > Date.now() - 60_000);
    if (tried.length >= TRIES) return undefined;
    const who = tokens.find(({ wanted }) => timingSafeEqual(digest(token), wanted))?.who;
    if (who === undefined) tried.push(Date.now());
    else inside.set(session, who);
    return who;
  };
  return {
    visitorOf: ({ headers }) => {
      const [bearer, token = ''] = /^Bearer (.+)$/.exec(headers.authorization ?? '') ?? [];
      const [, session = ''] = new RegExp(`(?:^|; )${cookie}=([\\w-]+)`).exec(headers.cookie ?? '') ?? [];
      // No cookie is one of these: they have a space.
      const who = inside.get(session) ?? (bearer && (inside.get(bearer) ?? enter(token, bearer)));
      return who === undefined ? undefined : { who, form: digest(secret + session + token).toString('hex') };
    },
    cookieFor: (given) => {
      const session = randomUUID();
      return enter(given, session) && `${cookie}=${session}; HttpOnly; SameSite=Strict; Path=/`;
    },
  };
}

/** Whether a form was sent by a page of this server: a browser says where from, and what is no browser has no cookie to misuse. */
function isOwnForm({ headers }: IncomingMessage): boolean {
  const site = headers['sec-fetch-site'];
  if (site !== undefined) return site === 'same-origin';
  return headers.origin === undefined || headers.origin.replace(/^https?:\/\//, '') === headers.host;
}

/** The fields of a form of this server; undefined for one from elsewhere, or that is too large. */
export async function fieldsOf(request: IncomingMessage): Promise<URLSearchParams | undefined> {
  if (!isOwnForm(request)) return undefined;
  let text = '';
  for await (const chunk of request) {
    text += String(chunk);
    if (text.length > MOST_BYTES) return undefined;
  }
  return new URLSearchParams(text);
}
