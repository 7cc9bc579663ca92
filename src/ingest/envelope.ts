/** One event as a client sends it: checked against the contract, its payload still the bytes that were sent. */
import { hash } from 'node:crypto';
import { invalid, Problem, type FieldError } from '../errors.js';
import type { NewEvent } from '../event-log/new-event.js';
import { isLongerThan, unstorable } from '../text.js';
import { parseTime } from '../time-format.js';
import { fieldErrorsMax, fieldPath, parseMembers, repeatedMessage } from './json-body.js';
import type { VisitMember } from './json-scanner.js';

export const payloadBytesMax = 262_144;
export const payloadDepthMax = 128;
/** The whole body of `POST /v1/events`: the largest payload, and 64 KiB for the other fields and white space. */
export const bodyBytesMax = 327_680;

export interface EventEnvelope {
  readonly type: string;
  /** A part of the request's body (not a copy), byte for byte as sent. */
  readonly payload: Buffer;
  readonly dedupId: string | null;
  readonly subject: string | null;
  /** Milliseconds since the Unix epoch. */
  readonly occurredAt: number | null;
  /** JSON text of an object: what a CloudEvent says besides. */
  readonly attributes?: string;
}

/** Checks one event after the other: `begin`, then `visit` for each of its members, then `read`. */
export interface ItemReader {
  begin(): void;
  readonly visit: VisitMember;
  /** The event whose members were visited, `fields` as `JSON.parse` gives them; or why it is refused. */
  read(body: Buffer, fields: Readonly<Record<string, unknown>>): EventEnvelope | Problem;
}

export interface EventHeaders {
  /** `Idempotency-Key`: means the same as `dedup_id`, which wins where both are sent. */
  readonly idempotencyKey: string | undefined;
}

/**
 * Reads the body of `POST /v1/events`. An optional field that is null counts as absent, so that a reply can be sent back. Lengths are
 * counted in Unicode code points. Refuses with a `Problem`, in this order: `invalid_utf8`, `invalid_json` (400), `payload_too_large` (413),
 * `validation_failed` (422) with everything that is wrong in `errors`.
 */
export function parseEvent(body: Buffer, headers: EventHeaders): EventEnvelope {
  const reader = new EventReader();
  const fields = parseMembers(body, reader.visit);
  const event = reader.read(body, fields, headers);
  if (event instanceof Problem) throw event;
  return event;
}

export class EventReader implements ItemReader {
  /** A bit for each field that was there. */
  #seen = 0;
  #deepest = 0;
  #payloadStart = -1;
  #payloadEnd = -1;
  #largestPayload = 0;
  #errors: FieldError[] = [];

  begin(): void {
    this.#seen = 0;
    this.#deepest = 0;
    this.#payloadStart = -1;
    this.#largestPayload = 0;
    if (this.#errors.length > 0) this.#errors = [];
  }

  readonly visit: VisitMember = (name, start, end, depth) => {
    const bit = 1 << (eventFields.indexOf(name) + 1);
    if (bit === unknownBit || (this.#seen & bit) !== 0) {
      const message = bit === unknownBit ? unknownMessage : repeatedMessage;
      if (this.#errors.length < fieldErrorsMax) this.#errors.push({ path: fieldPath(name), message });
    }
    this.#seen |= bit;
    if (name !== 'payload') return;
    this.#payloadStart = start;
    this.#payloadEnd = end;
    this.#largestPayload = Math.max(this.#largestPayload, end - start);
    this.#deepest = Math.max(this.#deepest, depth);
  };

  read(
    body: Buffer,
    fields: Readonly<Record<string, unknown>>,
    headers: EventHeaders = noHeaders,
  ): EventEnvelope | Problem {
    const errors = this.#errors;
    if (this.#largestPayload > payloadBytesMax) return payloadTooLarge(this.#largestPayload);
    if (this.#payloadStart < 0) errors.push({ path: '/payload', message: 'is required: any JSON value' });
    if (this.#deepest > payloadDepthMax) errors.push({ path: '/payload', message: tooDeepMessage });
    const type = readType('/type', fields['type'], errors);
    const dedupId = readText('/dedup_id', fields['dedup_id'], errors);
    const subject = readText('/subject', fields['subject'], errors);
    const occurredAt = readTime('/occurred_at', fields['occurred_at'], errors);
    // Where the body names a dedup id, the header says nothing, not even something wrong.
    const idempotencyKey = dedupId === null ? readIdempotencyKey(headers.idempotencyKey, errors) : null;
    if (errors.length > 0 || type === undefined) return invalid(...errors);
    const payload = body.subarray(this.#payloadStart, this.#payloadEnd);
    return { type, payload, dedupId: dedupId ?? idempotencyKey, subject, occurredAt };
  }
}

/** The event on its way into an org's log. */
export function toNewEvent(org: string, event: EventEnvelope): NewEvent {
  const { type, payload, dedupId, subject, occurredAt, attributes } = event;
  const dedup = dedupId === null ? null : { id: dedupId, bodyHash: dedupHash(type, payload) };
  const common = { org, type, subject, occurredAtMs: occurredAt, payload, dedup };
  return attributes === undefined ? common : { ...common, attributes };
}

/**
 * What a repeat of a dedup id is compared by: SHA-256 over the type's length in bytes (32 bits, big-endian), the type, and the payload. The
 * length keeps any two pairs of type and payload apart.
 */
export function dedupHash(type: string, payload: Buffer): Buffer {
  const typeBytes = Buffer.byteLength(type);
  const framed = Buffer.allocUnsafe(4 + typeBytes + payload.length);
  framed.writeUInt32BE(typeBytes, 0);
  framed.write(type, 4);
  payload.copy(framed, 4 + typeBytes);
  return hash('sha256', framed, 'buffer');
}

/** An event of a batch has none of its own. */
const noHeaders: EventHeaders = { idempotencyKey: undefined };
const eventFields: readonly string[] = ['type', 'payload', 'dedup_id', 'subject', 'occurred_at'];
/** The bit that stands for index -1. */
const unknownBit = 1;
const unknownMessage = `is not a field of an event; the fields are ${eventFields.join(', ')}`;
export const tooDeepMessage = `must not be nested deeper than ${payloadDepthMax} levels`;

/** Of a type, a dedup id and a subject. */
export const textCharsMax = 255;
const lengthMessage = `must have 1 to ${textCharsMax} characters`;
export const typeShape = /^[A-Za-z0-9][A-Za-z0-9._:/-]*$/;
export const reservedTypePrefix = 'sluice.';
const idempotencyKeyShape = /^[ -~]{1,255}$/;

export function readType(path: string, value: unknown, errors: FieldError[]): string | undefined {
  if (typeof value !== 'string') {
    const fault = value === undefined ? 'is required' : 'must be a string';
    errors.push({ path, message: `${fault}, for example "user.created"` });
    return undefined;
  }
  const problem = typeProblem(value);
  if (problem !== null) errors.push({ path, message: problem });
  return value;
}

function typeProblem(type: string): string | null {
  if (type.length === 0 || isLongerThan(type, textCharsMax)) return lengthMessage;
  if (!typeShape.test(type)) return 'must consist of A-Z a-z 0-9 . _ - : / and start with a letter or a digit';
  if (type.startsWith(reservedTypePrefix)) return `must not start with "${reservedTypePrefix}", which is reserved`;
  return null;
}

export function readText(path: string, value: unknown, errors: FieldError[]): string | null {
  if (value === undefined || value === null) return null;
  if (typeof value !== 'string') {
    errors.push({ path, message: 'must be a string or null' });
    return null;
  }
  const badLength = value.length === 0 || isLongerThan(value, textCharsMax);
  const problem = badLength ? lengthMessage : unstorable(value);
  if (problem !== null) errors.push({ path, message: problem });
  return value;
}

export function readTime(path: string, value: unknown, errors: FieldError[]): number | null {
  if (value === undefined || value === null) return null;
  const time =
    typeof value === 'string' ? parseTime(value) : { problem: 'must be a string (an RFC 3339 time) or null' };
  if ('ms' in time) return time.ms;
  errors.push({ path, message: time.problem });
  return null;
}

function readIdempotencyKey(value: string | undefined, errors: FieldError[]): string | null {
  if (value === undefined) return null;
  if (!idempotencyKeyShape.test(value)) {
    errors.push({ path: 'Idempotency-Key', message: `must have 1 to ${textCharsMax} printable ASCII characters` });
  }
  return value;
}

export function payloadTooLarge(bytes: number): Problem {
  const detail = `The payload has ${bytes} bytes; at most ${payloadBytesMax} are accepted. Store it elsewhere and send a reference.`;
  return new Problem('payload_too_large', detail);
}
