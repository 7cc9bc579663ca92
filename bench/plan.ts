/**
 * What a load generator sends, described so that `wrk` and the generator of this folder send the same bytes: requests with places for a key, a number
 * that is never the same, and the lease that the last reply named.
 */
import { isIP } from 'node:net';

/** In a body: a number that no other request has, in `uniqueDigits` digits. */
export const uniquePlace = '{{unique}}';
/** In a body: the lease to acknowledge. */
export const leasePlace = '{{lease}}';
export const uniqueDigits = 12;
/** `lse_` and 26 digits. */
export const leaseChars = 30;

export interface Request {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly contentType?: string;
  /** ASCII. */
  readonly body?: string;
  /** Events that a 2xx to it stores. */
  readonly events: number;
}

export interface Plan {
  /** Used in turns, a request each. */
  readonly keys: readonly string[];
  /** Sent in this order, over and over. */
  readonly cycle: readonly Request[];
  /** Instead of a cycle: receive, then acknowledge the lease; begin again (not twice a second) where nothing is pending. */
  readonly consume?: { readonly receive: Request; readonly ack: Request; readonly again: Request };
}

/** A request as bytes on the wire: `pieces` with a slot between each and the next. */
export interface RawRequest {
  readonly pieces: readonly string[];
  readonly slots: readonly Slot[];
  readonly events: number;
}

export type Slot = 'key' | 'unique' | 'lease';

/** The HTTP/1.1 text of a request to `host`. Throws a TypeError for a body that is not ASCII, since its length is counted in characters. */
export function rawRequest(request: Request, host: string): RawRequest {
  const { method, path, contentType, body = '', events } = request;
  // oxlint-disable-next-line no-control-regex -- ASCII is what is meant
  if (!/^[\0-\x7f]*$/.test(body)) throw new TypeError('a body of the benchmark is ASCII');
  const places = { [uniquePlace]: 'unique', [leasePlace]: 'lease' } as const satisfies Record<string, Slot>;
  const parts = body.split(/(\{\{unique\}\}|\{\{lease\}\})/);
  const texts = parts.filter((_, i) => i % 2 === 0);
  const slots: Slot[] = parts.filter((_, i) => i % 2 === 1).map((place) => places[place as keyof typeof places]);
  let length = texts.join('').length;
  for (const slot of slots) length += slot === 'unique' ? uniqueDigits : leaseChars;
  const type = contentType === undefined ? '' : `Content-Type: ${contentType}\r\n`;
  const size = method === 'GET' ? '' : `Content-Length: ${length}\r\n`;
  const start = `${method} ${path} HTTP/1.1\r\nHost: ${host}\r\n${type}${size}Authorization: Bearer `;
  return { pieces: [start, `\r\n\r\n${texts[0] ?? ''}`, ...texts.slice(1)], slots: ['key', ...slots], events };
}

/** The text of a request with its slots filled. */
export function fill({ pieces, slots }: RawRequest, values: Readonly<Record<Slot, string>>): string {
  let text = pieces[0] ?? '';
  for (const [i, slot] of slots.entries()) text += values[slot] + (pieces[i + 1] ?? '');
  return text;
}

export function uniqueText(number: number): string {
  return String(number).padStart(uniqueDigits, '0');
}

/**
 * Throws unless the address names this machine by number: nobody else's server is ever put under load, by a slip of the hand or by a name that
 * resolves to somewhere else. Called before the first packet.
 */
export function requireLoopback(address: string): URL {
  const url = new URL(address);
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const isLoopback = (isIP(host) === 4 && host.startsWith('127.')) || host === '::1';
  if (!isLoopback || url.protocol !== 'http:') {
    throw new Error(
      `${address} is refused: the benchmark puts load on this machine only, at http://127.0.0.1 or http://[::1]`,
    );
  }
  return url;
}
