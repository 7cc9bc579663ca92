import { errorTable } from '../../errors.js';
import type { ErrorCode } from '../../errors.js';
import type { Route } from '../route.js';

/** Of any request: it may not be HTTP, not arrive, be too long, bring what is not expected, or meet a fault. */
const always: readonly ErrorCode[] = [
  'bad_request',
  'request_timeout',
  'uri_too_long',
  'validation_failed',
  'headers_too_large',
  'internal',
];

/** Every code that a route can be refused with, in the order of the error table: by who may call it, its bucket, its body, its query, its method. */
export function codesOf(route: Route): readonly ErrorCode[] {
  const codes = new Set<ErrorCode>([...always, ...(route.docs.errors ?? [])]);
  const add = (...more: ErrorCode[]): void => more.forEach((code) => codes.add(code));
  add(route.bodyLimit?.code ?? 'payload_too_large');
  if (route.path.startsWith('/v1/')) add('not_acceptable');
  if (route.access !== 'public')
    add('missing_key', 'invalid_key', 'insufficient_scope', 'org_suspended', 'overloaded', 'storage_unavailable');
  if (route.bucket !== null) add('rate_limited');
  if (route.cost === 'counted') add('rate_exceeds_burst');
  if (route.body !== undefined) add('invalid_json', 'invalid_utf8', 'unsupported_media_type');
  if (route.body === 'raw') add('payload_too_large');
  if (route.query !== undefined && 'cursor' in route.query.properties) add('invalid_cursor');
  // What the path names may not be there.
  if (route.path.includes(':') || (route.query !== undefined && 'after' in route.query.properties)) add('not_found');
  if (route.method !== 'GET') add('outcome_unknown');
  return (Object.keys(errorTable) as ErrorCode[]).filter((code) => codes.has(code));
}
