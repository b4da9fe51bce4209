import { createHash, randomUUID, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { passwordIn } from '../base/passwords.js';
import type { Settings } from '../base/settings.js';

/** How often a wrong token may be given, by anybody, in a minute. */
const TRIES = 10;
const MOST_BYTES = 8192;
const COOKIE = 'tidemark_console';

const digest = (text: string) => createHash('sha256').update(text).digest();

/** Who may look: whoever gives the token, as a bearer or once in the form, where there is one to give. */
export interface Door {
  readonly isOpenTo: (request: IncomingMessage) => boolean;
  /** What the form brought: the cookie to set, or undefined where it is not the token, or too many were tried. */
  readonly cookieFor: (given: string) => string | undefined;
}

/** @throws UsageError for a file that cannot be used */
export function doorOf({ console_token_file: file }: Settings): Door {
  if (file === undefined) return { isOpenTo: () => true, cookieFor: () => undefined };
  const wanted = digest(passwordIn('CONSOLE_TOKEN_FILE', file));
  const sessions = new Set<string>();
  let tried: number[] = [];
  const isToken = (text: string) => timingSafeEqual(digest(text), wanted);
  return {
    isOpenTo: ({ headers }) => {
      const [, bearer] = /^Bearer (.+)$/.exec(headers.authorization ?? '') ?? [];
      const [, session = ''] = new RegExp(`(?:^|; )${COOKIE}=([\\w-]+)`).exec(headers.cookie ?? '') ?? [];
      return sessions.has(session) || (bearer !== undefined && isToken(bearer));
    },
    cookieFor: (given) => {
      tried = tried.filter((at) => at > Date.now() - 60_000);
      if (tried.length >= TRIES) return undefined;
      if (!isToken(given)) {
        tried.push(Date.now());
        return undefined;
      }
      const session = randomUUID();
      sessions.add(session);
      return `${COOKIE}=${session}; HttpOnly; SameSite=Strict; Path=/`;
    },
  };
}

/** Whether a form was sent by a page of this server: a browser says where from, and what is no browser has no cookie to misuse. */
export function isOwnForm({ headers }: IncomingMessage): boolean {
  const site = headers['sec-fetch-site'];
  if (site !== undefined) return site === 'same-origin';
  return headers.origin === undefined || headers.origin.replace(/^https?:\/\//, '') === headers.host;
}

/** The fields of a form; undefined where it is too large. */
export async function fieldsOf(request: IncomingMessage): Promise<URLSearchParams | undefined> {
  let text = '';
  for await (const chunk of request) {
    text += String(chunk);
    if (text.length > MOST_BYTES) return undefined;
  }
  return new URLSearchParams(text);
}
