import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { ContentCoding } from './accept-encoding.js';
import { contentCodings } from './accept-encoding.js';

/** A strong validator (RFC 9110, 8.8.1) for a body that changes only if its bytes do. */
export function entityTag(body: string | Buffer): string {
  return `"${createHash('sha256').update(body).digest('base64url').slice(0, 27)}"`;
}

/** The tag of the same body in a content coding, which is another sequence of bytes. */
export function encodedTag(tag: string, coding: ContentCoding): string {
  return `${tag.slice(0, -1)}-${coding}"`;
}

/**
 * The tag by which the client has it already, in whatever coding; null if it has not. `If-None-Match` (RFC 9110, 13.1.2) is a list of tags,
 * compared weakly, or `*`.
 */
export function knownTag({ headers }: Pick<IncomingMessage, 'headers'>, tag: string): string | null {
  const known = headers['if-none-match'];
  if (known === undefined) return null;
  if (known.trim() === '*') return tag;
  const names = known.split(',').map((one) => one.trim().replace(/^W\//, ''));
  const tags = [tag, ...contentCodings.map((coding) => encodedTag(tag, coding))];
  return tags.find((one) => names.includes(one)) ?? null;
}
