import { Type } from '@sinclair/typebox';
import type { TSchema } from '@sinclair/typebox';
import { cloudEventBatchMediaType } from '../../ingest/cloud-event.js';
import type { ErrorCode } from '../../errors.js';
import type { HeaderName, RequestHeaderName } from './headers.js';
import * as replies from './replies.js';

/** The resources, in the order in which the document lists them. */
export const groups = {
  Events: 'The log of an organisation: send events to it, read it.',
  Inbox:
    'What a consumer has still to do: receive events under a lease, and acknowledge them. Every organisation has the inbox `default`.',
  Inboxes: 'The inboxes of an organisation, and what each wants.',
  Keys: 'The API keys of an organisation.',
  Organisation: 'What a key may know and change of its own organisation.',
  Administration: 'Organisations, for whoever runs the server.',
  Operations: 'Health, metrics, and what there is to read.',
} as const;

export type Group = keyof typeof groups;

export interface ReplyDocs {
  readonly description: string;
  /** By media type. Absent: there is no body. */
  readonly content?: Readonly<Record<string, TSchema>>;
  /** Besides those that every reply has. */
  readonly headers?: readonly HeaderName[];
}

/** What the document of the API says of a route beyond what the route's row says itself. */
export interface RouteDocs {
  /** The route's name in programs: unique, never changed. */
  readonly id: string;
  readonly group: Group;
  /** One line, without a full stop. */
  readonly summary: string;
  /** Markdown of code spans only, a paragraph a line. */
  readonly description?: string;
  /** By status: every reply that is not a refusal. */
  readonly replies: Readonly<Record<number, ReplyDocs>>;
  /** What only this route is refused with; `problems.ts` derives the rest from the row. */
  readonly errors?: readonly ErrorCode[];
  /** Where a refusal holds more than usual. */
  readonly problem?: TSchema;
  readonly requestHeaders?: readonly RequestHeaderName[];
  /** Of a body that the handler reads itself: a schema for each media type. */
  readonly bodies?: Readonly<Record<string, TSchema>>;
}

/** A reply whose body is JSON. */
export function jsonReply(description: string, schema: TSchema, headers: readonly HeaderName[] = []): ReplyDocs {
  return { description, content: { 'application/json': schema }, headers };
}

/** A page of events, which a client may also have as CloudEvents. */
export function eventPageReply(item: TSchema): ReplyDocs {
  const content = {
    'application/json': replies.pageOf(item),
    [cloudEventBatchMediaType]: Type.Array(replies.cloudEventReply),
  };
  return { description: 'A page of events.', content, headers: ['Link', 'Vary'] };
}

export const noContent = (description: string): ReplyDocs => ({ description });
