import type { EventRow } from '../db/sql/events.js';
import { invalid } from '../errors.js';
import { encodeEventId } from '../event-log/event-id.js';
import { formatTime } from '../time-format.js';

/** The fields of an event in the order in which they are written. */
export const eventFields = ['id', 'type', 'subject', 'occurred_at', 'received_at', 'attributes', 'payload'] as const;
export type EventField = (typeof eventFields)[number];

/** `?fields=id,type`: null where it is absent, which means all. Throws `validation_failed` for an unknown field. */
export function parseFields(text: unknown): ReadonlySet<EventField> | null {
  if (typeof text !== 'string') return null;
  const fields = text.split(',');
  const unknown = fields.filter((field) => !(eventFields as readonly string[]).includes(field));
  if (unknown.length > 0) {
    throw invalid({ path: '?fields', message: `must be a comma-separated list of ${eventFields.join(', ')}` });
  }
  return new Set(fields as EventField[]);
}

export function wantsPayload(fields: ReadonlySet<EventField> | null): boolean {
  return fields?.has('payload') ?? true;
}

/**
 * An event as JSON text. The payload is spliced in as the bytes that were sent: it is not parsed, and nothing stands around it but its own white space.
 * `extra` is JSON text of further members, without braces.
 */
export function eventJson(org: string, event: EventRow, fields: ReadonlySet<EventField> | null, extra = ''): string {
  const members: string[] = [];
  const wants = (field: EventField): boolean => fields === null || fields.has(field);
  if (wants('id')) members.push(`"id":"${eventId(org, event)}"`);
  if (wants('type')) members.push(`"type":${JSON.stringify(event.type)}`);
  if (wants('subject')) members.push(`"subject":${JSON.stringify(event.subject)}`);
  if (wants('occurred_at')) members.push(`"occurred_at":${timeJson(event.occurred_at)}`);
  if (wants('received_at')) members.push(`"received_at":${timeJson(event.received_at)}`);
  if (wants('attributes')) members.push(`"attributes":${JSON.stringify(event.attributes)}`);
  if (wants('payload')) members.push(`"payload":${event.payload ?? 'null'}`);
  if (extra !== '') members.push(extra);
  return `{${members.join(',')}}`;
}

export function eventId(org: string, event: EventRow): string {
  return encodeEventId({ org, epoch: event.epoch, position: Number(event.position), day: event.day });
}

function timeJson(time: Date | null): string {
  return time === null ? 'null' : `"${formatTime(time.getTime())}"`;
}
