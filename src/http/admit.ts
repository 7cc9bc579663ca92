import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { Authenticator, Caller, Identity } from '../admission/authenticate.js';
import type { KeyUsage } from '../admission/key-usage.js';
import type { Admitted, RateLimiter } from '../admission/rate-limit.js';
import { Problem } from '../errors.js';
import type { BodyLimit, Route } from './route.js';

/**
 * What a request must pass before its body is read, cheapest first: the key, its scope, the size and the media type that the headers
 * announce, the bucket. Each throws the `Problem` of its refusal.
 */
export interface Admission {
  readonly authenticator: Authenticator;
  readonly limiter: RateLimiter;
  readonly keyUsage: KeyUsage;
  /** Of a route that names no other limit. */
  readonly bodyLimit: BodyLimit;
}

/** Who calls, or null where anybody may. A promise only where the key must be looked up. */
export function admitCaller(
  { authenticator }: Admission,
  route: Route,
  { headers, rawHeaders }: Pick<IncomingMessage, 'headers' | 'rawHeaders'>,
): Caller | null | Promise<Caller> {
  if (route.access === 'public') return null;
  // Node keeps the first of several, where something between us and the client may have looked at another.
  if (headers.authorization !== undefined && isRepeated(rawHeaders, 'authorization')) {
    throw new Problem('invalid_key', 'The Authorization header was sent more than once. Send it once.');
  }
  return authenticator.authenticate(headers);
}

/** Every request asks, so it looks at lengths first: 0.02 µs in place of 0.2. */
function isRepeated(rawHeaders: readonly string[], name: string): boolean {
  let candidates = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) if (rawHeaders[i]?.length === name.length) candidates++;
  return candidates > 1 && countHeader(rawHeaders, name) > 1;
}

/** How often a header was sent. `name` in lower case. */
export function countHeader(rawHeaders: readonly string[], name: string): number {
  let count = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const sent = rawHeaders[i] ?? '';
    if (sent.length === name.length && sent.toLowerCase() === name) count++;
  }
  return count;
}

/** Checks the caller's scope, and returns who it is where the route is for keys. */
export function admitAccess({ access }: Pick<Route, 'access'>, caller: Caller | null): Identity | null {
  if (access === 'public') return null;
  if (access === 'admin') {
    if (caller?.kind === 'admin') return null;
    throw new Problem('insufficient_scope', 'This route needs the admin token of the server, not a key.');
  }
  if (caller?.kind !== 'key') {
    throw new Problem(
      'insufficient_scope',
      'The admin token belongs to no organisation. Use a key of the organisation.',
    );
  }
  if (access !== 'any_key' && !caller.scopes.has(access)) {
    throw new Problem('insufficient_scope', `This key lacks the scope ${access}. Use a key that has it.`);
  }
  return caller;
}

/** Refuses, by its headers alone, a body that could not be accepted. */
export function admitBody(limit: BodyLimit, route: Route, headers: IncomingHttpHeaders): void {
  if (!hasBody(headers)) return;
  if (Number(headers['content-length'] ?? 0) > limit.bytesMax) throw tooLarge(limit);
  if (route.body === undefined) return;
  const mediaType = mediaTypeOf(headers);
  const taken = route.mediaTypes ?? jsonOnly;
  const takesAny = route.takesAny?.(headers) ?? false;
  if (!takesAny && (mediaType === undefined || !taken.includes(mediaType))) {
    const detail = `Send the body as JSON, with "Content-Type: ${taken.join('" or "')}".`;
    throw new Problem('unsupported_media_type', detail);
  }
  const type = headers['content-type'] ?? '';
  const charset = type.includes(';') ? /;\s*charset="?([^\s";]+)/i.exec(type)?.[1] : undefined;
  if (!takesAny && charset !== undefined && charset.toLowerCase() !== 'utf-8') {
    throw new Problem('unsupported_media_type', 'Send the body in UTF-8.');
  }
  const coding = headers['content-encoding']?.trim().toLowerCase();
  if (coding !== undefined && coding !== 'gzip' && coding !== 'identity') {
    const options = { headers: { 'Accept-Encoding': 'gzip' } };
    throw new Problem('unsupported_media_type', 'Send the body as it is, or with "Content-Encoding: gzip".', options);
  }
}

export const jsonOnly: readonly string[] = ['application/json'];

/** Spends tokens of the route's bucket. */
export function admitRate(
  { limiter, keyUsage }: Admission,
  { bucket }: Route,
  identity: Identity | null,
  tokens: number,
): Admitted | null {
  if (identity === null) return null;
  keyUsage.used(identity.org, identity.keyId);
  if (bucket === null) return null;
  return limiter.admit(identity.org, identity.limits, bucket, tokens);
}

/** The media type of the body without its parameters. */
export function mediaTypeOf(headers: IncomingHttpHeaders): string | undefined {
  const type = headers['content-type'];
  // What nearly everybody sends.
  if (type === undefined || type === 'application/json') return type;
  return type.split(';', 1)[0]?.trim().toLowerCase();
}

export function hasBody(headers: IncomingHttpHeaders): boolean {
  const length = headers['content-length'];
  return headers['transfer-encoding'] !== undefined || (length !== undefined && length !== '0');
}

export function tooLarge({ code, bytesMax }: BodyLimit): Problem {
  const instead = code === 'batch_too_large' ? 'several smaller ones' : 'less, or a link to it';
  return new Problem(code, `The body may have ${bytesMax} bytes at most. Send ${instead}.`);
}

/**
 * Which of the media types that there are a client likes best, the first of equals; null if it takes none. For each the most specific range decides
 * (RFC 9110, 12.5.1). No header takes anything.
 */
export function preferredType(accept: string | undefined, types: readonly string[]): string | null {
  if (accept === undefined || accept === '' || accept === '*/*') return types[0] ?? null;
  const weights = new Map<string, number>();
  for (const range of accept.split(',')) {
    const [type = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
    const weight = parameters.find((parameter) => parameter.startsWith('q='));
    // What is no weight counts as none.
    weights.set(type, weight === undefined || !/^q=[01](?:\.\d{0,3})?$/.test(weight) ? 1 : Number(weight.slice(2)));
  }
  let best: string | null = null;
  let bestWeight = 0;
  for (const type of types) {
    const weight = weights.get(type) ?? weights.get(`${type.slice(0, type.indexOf('/'))}/*`) ?? weights.get('*/*') ?? 0;
    if (weight > bestWeight) [best, bestWeight] = [type, weight];
  }
  return best;
}
