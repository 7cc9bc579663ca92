import { memberTexts, elementTexts } from './json-text.js';

/** An event to send. Fields are those of the API; unknown ones are refused by the server. */
export interface NewEvent {
  /** 1 to 255 characters of `A-Z a-z 0-9 . _ - : /`, such as `order.paid`. */
  readonly type: string;
  /** Any JSON value, at most 262,144 bytes as JSON. One of `payload` and `rawPayload` is required. */
  readonly payload?: unknown;
  /** JSON text that is sent, stored and given back byte for byte, for what JavaScript would change: large numbers, the order of keys, white space. */
  readonly rawPayload?: string;
  /** Events of the same `dedup_id` are stored once. Absent: a random one, so that a retry stores nothing twice. */
  readonly dedup_id?: string | null;
  /** Whom the event is about, such as `user/12345`. */
  readonly subject?: string | null;
  readonly occurred_at?: string | Date | null;
}

/** An event as the JSON text of an object, which is sent as it is; a random `dedup_id` is added where there is none. */
export interface EventText {
  readonly json: string;
}

export interface StoredEvent {
  readonly id: string;
  readonly type: string;
  readonly subject: string | null;
  readonly occurred_at: string | null;
  readonly received_at: string;
  readonly attributes: Readonly<Record<string, unknown>> | null;
  /** As `JSON.parse` reads it. */
  readonly payload: unknown;
}

export type EventField = keyof StoredEvent;

export interface ReadOptions<Field extends EventField = EventField> {
  /** The fields to read; all when absent. A payload that is not asked for is not read from storage. */
  readonly fields?: readonly Field[];
  /** Gives each event its payload as the text that was sent, too, in `rawPayload`. */
  readonly rawPayload?: boolean;
  readonly signal?: AbortSignal;
}

/** An event with the fields that were asked for; `rawPayload` only when that was asked for. */
export type ReadEvent<Field extends EventField = EventField> = Pick<StoredEvent, Field> & {
  readonly rawPayload?: string;
};

export interface EncodedEvent {
  /** JSON text. */
  readonly text: string;
  /** True if a `dedup_id` makes it harmless to send it again. */
  readonly isRepeatable: boolean;
  /** True if that is a random one: then a duplicate is this very event, sent before. */
  readonly hasOwnDedupId: boolean;
}

/** The JSON text to send. Throws a `TypeError` or `SyntaxError` for what is no JSON. */
export function encodeEvent(event: NewEvent | EventText): EncodedEvent {
  return 'json' in event ? encodeText(event.json) : encodeObject(event);
}

function encodeText(json: string): EncodedEvent {
  const value: unknown = JSON.parse(json);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new TypeError('An event is a JSON object, such as {"type": "user.created", "payload": {}}.');
  }
  if ('dedup_id' in value) {
    return { text: json, isRepeatable: typeof value.dedup_id === 'string', hasOwnDedupId: false };
  }
  const rest = json.slice(json.indexOf('{') + 1);
  const comma = Object.keys(value).length === 0 ? '' : ',';
  return { text: `{${dedupMember()}${comma}${rest}`, isRepeatable: true, hasOwnDedupId: true };
}

function encodeObject({ rawPayload, ...fields }: NewEvent): EncodedEvent {
  const members: string[] = [];
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined || name === 'payload' || (name === 'dedup_id' && value === null)) continue;
    members.push(`${JSON.stringify(name)}:${JSON.stringify(value)}`);
  }
  const hasOwnDedupId = typeof fields.dedup_id !== 'string';
  if (hasOwnDedupId) members.push(dedupMember());
  members.push(`"payload":${payloadText(fields.payload, rawPayload)}`);
  return { text: `{${members.join(',')}}`, isRepeatable: true, hasOwnDedupId };
}

function payloadText(payload: unknown, rawPayload: string | undefined): string {
  if (rawPayload === undefined) {
    const text = JSON.stringify(payload) as string | undefined;
    if (text === undefined) throw new TypeError('payload is required: any JSON value.');
    return text;
  }
  if (payload !== undefined) throw new TypeError('Either payload or rawPayload, not both.');
  // What is not one JSON value would become other fields of the event.
  JSON.parse(rawPayload);
  return rawPayload;
}

function dedupMember(): string {
  return `"dedup_id":"${crypto.randomUUID()}"`;
}

/** An event of a reply; `text` is the reply, and the event with it. */
export function withRawPayload<Event extends object>(event: Event, text: string): Event {
  const rawPayload = memberTexts(text).get('payload');
  return rawPayload === undefined ? event : { ...event, rawPayload };
}

/** The events in the member `data` of a reply, with the text of their payloads. */
export function withRawPayloads<Event extends object>(events: readonly Event[], replyText: string): Event[] {
  const texts = elementTexts(memberTexts(replyText).get('data') ?? '[]');
  return events.map((event, i) => withRawPayload(event, texts[i] ?? '{}'));
}
