import { createHmac } from 'node:crypto';
import { lookup } from 'node:dns';
import { BlockList, isIP, isIPv6, type LookupFunction } from 'node:net';
import { Agent, request, type Dispatcher } from 'undici';
import { TidemarkError, UsageError } from '../base/errors.js';
import type { Event } from '../warehouse/relay.js';
import type { Fault, Outcome, Target, Transport } from './transport.js';

/** Networks that are not of the public internet: of this machine, of those around it, of none; and those by which one of these can be reached. */
const NOT_PUBLIC = [
  '0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.168.0.0/16',
  '198.18.0.0/15 224.0.0.0/3 ::/96 ::ffff:0:0:0/96 64:ff9b::/96 64:ff9b:1::/48 2001::/32 2002::/16 fc00::/7',
  'fe80::/9 ff00::/8',
];
const notPublic = new BlockList();
for (const [network = '', bits] of NOT_PUBLIC.flatMap((line) => line.split(' ')).map((each) => each.split('/')))
  notPublic.addSubnet(network, Number(bits), isIPv6(network) ? 'ipv6' : 'ipv4');

/** An IPv4 address that is written as one of IPv6 is looked at as what it is. */
export const isPublic = (address: string): boolean => !notPublic.check(address, isIPv6(address) ? 'ipv6' : 'ipv4');

class PrivateAddress extends Error {
  override readonly message = 'its address is not of the public internet';
}

/** Resolves a name for the connection that is about to be made: what is looked at is what is connected to, whatever the name means a moment later. */
const lookupPublic: LookupFunction = (host, options, callback) => {
  lookup(host, { ...options, all: true }, (error, found) => {
    const addresses = error === null ? found : [];
    const fault = error ?? (addresses.every(({ address }) => isPublic(address)) ? null : new PrivateAddress());
    if (options.all === true) callback(fault, addresses);
    else callback(fault, addresses[0]?.address ?? '', addresses[0]?.family);
  });
};

/** Below the usual SHUTDOWN_TIMEOUT_SECONDS, so that a request in hand ends by itself. */
const ANSWER_SECONDS = 20;

type Answer = Pick<Dispatcher.ResponseData, 'statusCode' | 'headers'>;

/** What sends a request to the target, over connections that are kept. Redirects are not followed. */
function newPoster({ url: given, mayBePrivate }: Target) {
  const url = new URL(given);
  // A connection has as long as its request.
  const timeout = 2 * ANSWER_SECONDS * 1000;
  const dispatcher = new Agent({ connect: mayBePrivate ? { timeout } : { timeout, lookup: lookupPublic } });
  const user = [url.username, url.password].map(decodeURIComponent).join(':');
  const authorization = user === ':' ? {} : { authorization: `Basic ${Buffer.from(user).toString('base64')}` };
  const post = async (given: Readonly<Record<string, string>>, body: string): Promise<Answer> => {
    // An address that is written as such is looked up by nobody.
    const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
    if (!mayBePrivate && isIP(host) !== 0 && !isPublic(host)) throw new PrivateAddress();
    const headers = { ...given, ...authorization, 'user-agent': 'Tidemark' };
    const signal = AbortSignal.timeout(ANSWER_SECONDS * 1000);
    const response = await request(url, { method: 'POST', dispatcher, headers, body, signal });
    // An answer is its status: of its body not more is waited for than a line or two.
    await response.body.dump({ limit: 64 * 1024 });
    return response;
  };
  return { post, close: () => dispatcher.destroy() };
}

/**
 * The keys of a secret. Several, parted by blanks, sign each: while one takes the place of another, the receiver may know either.
 * @throws UsageError for what is none: read as base64 nonetheless it would be a key that is shorter, or empty
 */
function keysOf(secret: string): readonly Buffer[] {
  const keys = secret
    .trim()
    .split(/\s+/)
    .map((key) => key.replace(/^whsec_/, ''));
  if (keys.every((key) => /^[A-Za-z0-9+/]{2,}={0,2}$/.test(key))) return keys.map((key) => Buffer.from(key, 'base64'));
  throw new UsageError('the secret is no key to sign webhooks with: whsec_ and base64, or several parted by blanks', {
    hint: 'make one: echo "whsec_$(openssl rand -base64 32)"',
  });
}

/** The headers of Standard Webhooks. */
function headersFor(keys: readonly Buffer[], id: string, body: string): Record<string, string> {
  const timestamp = String(Math.floor(Date.now() / 1000));
  const signatures = keys.map((key) => {
    const hmac = createHmac('sha256', key).update(`${id}.${timestamp}.${body}`);
    return `v1,${hmac.digest('base64')}`;
  });
  return {
    'content-type': 'application/cloudevents-batch+json; charset=utf-8',
    ...{ 'webhook-id': id, 'webhook-timestamp': timestamp },
    ...(signatures.length > 0 && { 'webhook-signature': signatures.join(' ') }),
  };
}

/** In how many seconds to come again: the header says it, or a date. */
function secondsUntil(retryAfter: string | undefined): number | undefined {
  if (retryAfter === undefined) return undefined;
  const seconds = /^\d+$/.test(retryAfter) ? Number(retryAfter) : (Date.parse(retryAfter) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, seconds) : undefined;
}

/** These say that the receiver is busy, and nothing of the events. */
const COME_AGAIN = [408, 425, 429];

/** What an answer means; undefined where the events were taken, `refused` where one of them may be at fault. */
function faultOf({ statusCode: status, headers }: Answer, count: number, detail: string) {
  const fault = (message: string, hint: string, isFinal = false): Fault => ({
    ...{ isFinal, error: new TidemarkError(`the receiver answers ${status}${message}`, { detail, hint }) },
    retry_seconds: secondsUntil(headers['retry-after']?.toString()),
  });
  if (status >= 200 && status < 300) return undefined;
  if (status === 410)
    return fault(': it wants no more events', 'end the subscription, or resume it once the receiver is back', true);
  if (status >= 300 && status < 400)
    return fault(', and no other address is gone to', 'subscribe with the URL that it points to');
  if (status >= 500 || status < 300 || COME_AGAIN.includes(status))
    return fault('', 'it is tried again until it takes them');
  const next = 'the log of the receiver says why; then resume the subscription, or skip the event with a reason';
  return count > 1 ? 'refused' : fault(' to this one event', next, true);
}

function notReached(error: unknown, detail: string): Fault {
  const { name, message, code = '' } = error as Error & { readonly code?: string };
  const isPrivate = error instanceof PrivateAddress;
  // Of a name that has several addresses, none of which answers, only the code says why.
  const said = name === 'TimeoutError' ? `no answer within ${ANSWER_SECONDS} seconds` : message || code;
  const hint = isPrivate
    ? 'if it is yours, set EVENT_PRIVATE_ADDRESSES=allow for the relay'
    : 'see that it runs and that its URL is right; it is tried again';
  const parts = { detail, hint, cause: error };
  return { isFinal: false, error: new TidemarkError(`the receiver cannot be reached: ${said}`, parts) };
}

/** Sends events as CloudEvents in batches, each in one request that is signed as Standard Webhooks say. */
export function openWebhook(target: Target): Transport {
  const keys = target.secret === null ? [] : keysOf(target.secret);
  const { post, close } = newPoster(target);
  const where = `receiver ${new URL(target.url).host}`;
  const give = (events: readonly Event[]): Promise<ReturnType<typeof faultOf>> => {
    const [first, last] = [events[0]?.event_id ?? '', events.at(-1)?.event_position ?? ''];
    const id = events.length > 1 ? `${first}-${last}` : first;
    const body = `[${events.map(({ event }) => event).join(',\n')}]`;
    return post(headersFor(keys, id, body), body).then(
      (answer) => faultOf(answer, events.length, where),
      (error: unknown) => notReached(error, where),
    );
  };
  /** Of those that were refused together one is at fault: which, is seen where each comes alone. */
  const giveOneByOne = async (events: readonly Event[]): Promise<Outcome> => {
    for (const [taken, event] of events.entries()) {
      const fault = await give([event]);
      if (typeof fault === 'object') return { taken, fault };
    }
    return { taken: events.length };
  };
  return {
    most: 100,
    publish: async (events) => {
      const fault = await give(events);
      if (fault === 'refused') return giveOneByOne(events);
      return { taken: fault === undefined ? events.length : 0, fault };
    },
    close,
  };
}
