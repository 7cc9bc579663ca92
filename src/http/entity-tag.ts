import { createHash } from 'node:crypto';
import type { FastifyRequest } from 'fastify';

/** A strong validator (RFC 9110, 8.8.1) for a body that changes only if its bytes do. */
export function entityTag(body: string | Buffer): string {
  return `"${createHash('sha256').update(body).digest('base64url').slice(0, 27)}"`;
}

/** Whether the client has it already. `If-None-Match` (RFC 9110, 13.1.2) is a list of tags, compared weakly, or `*`. */
export function matchesTag({ headers }: Pick<FastifyRequest, 'headers'>, tag: string): boolean {
  const known = headers['if-none-match'];
  if (known === undefined) return false;
  if (known.trim() === '*') return true;
  return known.split(',').some((one) => one.trim().replace(/^W\//, '') === tag);
}
