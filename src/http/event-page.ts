/** A page of a list of events, in the form that the client likes best: JSON with a cursor, or a batch of CloudEvents with a link. */
import type { IncomingMessage } from 'node:http';
import type { EventRow } from '../db/sql/events.js';
import { invalid } from '../errors.js';
import { cloudEventBatchMediaType } from '../ingest/cloud-event.js';
import { preferredType } from './admit.js';
import { cloudEventJson } from './cloud-event-json.js';
import type { EventField } from './event-json.js';
import { parseFields } from './event-json.js';
import type { Reply } from './route.js';

export const pageTypes = ['application/json', cloudEventBatchMediaType];

export interface PageForm {
  readonly isBatch: boolean;
  /** Null: all of them. */
  readonly fields: ReadonlySet<EventField> | null;
}

/** Throws `validation_failed` for fields that there are not, and for a batch of CloudEvents with only some. */
export function pageFormOf({ headers: sent }: IncomingMessage, query: Readonly<Record<string, unknown>>): PageForm {
  const fields = parseFields(query['fields']);
  const isBatch = preferredType(sent.accept, pageTypes) === cloudEventBatchMediaType;
  if (isBatch && fields !== null) throw invalid({ path: '?fields', message: 'is not for CloudEvents' });
  return { isBatch, fields };
}

const headers = { Vary: 'Authorization, X-API-Key, Accept, Accept-Encoding' };

/** `items` are JSON texts. */
export function jsonPage(items: readonly string[], next: string | null): Reply {
  return { status: 200, headers, body: `{"data":[${items.join(',')}],"next_cursor":${JSON.stringify(next)}}` };
}

/** An array has no room for a cursor, so the next page is a link (RFC 8288) to the same list behind it. */
export function batchPage(
  { url }: IncomingMessage,
  org: string,
  events: readonly EventRow[],
  next: string | null,
): Reply {
  const body = `[${events.map((event) => cloudEventJson(org, event)).join(',')}]`;
  const link = next === null ? {} : { Link: `<${linkTo(url ?? '', next)}>; rel="next"` };
  return { status: 200, headers: { ...headers, ...link }, body, mediaType: cloudEventBatchMediaType };
}

function linkTo(url: string, cursor: string): string {
  const { pathname, searchParams } = new URL(url, 'http://localhost');
  searchParams.set('cursor', cursor);
  return `${pathname}?${String(searchParams)}`;
}
