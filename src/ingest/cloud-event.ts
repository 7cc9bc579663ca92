/**
 * CloudEvents 1.0 (https://github.com/cloudevents/spec, tag v1.0.2: the JSON format and the HTTP binding) as events. Their type, subject, time
 * and data are the event's; their source and id together name it, so they make its dedup id. All but type, subject and data is kept as attributes.
 */
import { isUtf8 } from 'node:buffer';
import { hash } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { invalid, Problem, type FieldError } from '../errors.js';
import { unstorable } from '../text.js';
import type { EventEnvelope, ItemReader } from './envelope.js';
import {
  payloadBytesMax,
  payloadDepthMax,
  payloadTooLarge,
  readText,
  readTime,
  readType,
  tooDeepMessage,
} from './envelope.js';
import { fieldErrorsMax, fieldPath, invalidUtf8, parseObject, parseText, repeatedMessage } from './json-body.js';
import type { VisitMember } from './json-scanner.js';
import { scanObject } from './json-scanner.js';

export const cloudEventMediaType = 'application/cloudevents+json';
export const cloudEventBatchMediaType = 'application/cloudevents-batch+json';
/** All attributes of an event together, as JSON. */
export const attributesBytesMax = 8_192;

/** Reads the body of an event in structured mode. Refuses as `parseEvent` does. */
export function parseStructuredCloudEvent(body: Buffer): EventEnvelope {
  const { fields, members } = parseObject(body);
  const reader = new CloudEventReader();
  for (const { name, start, end, depth } of members) reader.visit(name, start, end, depth);
  return accepted(reader.read(body, fields));
}

/** Whether a request carries an event in binary mode: its attributes in headers, its body the data. */
export function isBinaryCloudEvent(headers: IncomingHttpHeaders): boolean {
  return headers['ce-specversion'] !== undefined || headers['ce-id'] !== undefined;
}

/** Reads an event in binary mode. Data that is not JSON by its media type is kept as base64. Refuses as `parseEvent` does. */
export function parseBinaryCloudEvent(body: Buffer, headers: IncomingHttpHeaders): EventEnvelope {
  const errors: FieldError[] = [];
  const attributes: [string, unknown][] = [];
  for (const [header, value] of Object.entries(headers)) {
    if (!header.startsWith(headerPrefix) || header === 'ce-datacontenttype') continue;
    const text = headerValue(String(value));
    if (text === null) {
      throw invalid({ path: header, message: 'must be printable ASCII, with the rest percent-encoded as UTF-8' });
    }
    attributes.push([header.slice(headerPrefix.length), text]);
  }
  const mediaType = headers['content-type'];
  if (mediaType !== undefined) attributes.push(['datacontenttype', mediaType]);
  return accepted(toEnvelope(attributes, binaryData(body, mediaType, errors), errors, (name) => headerPrefix + name));
}

/** One event after the other, in the JSON format. */
export class CloudEventReader implements ItemReader {
  readonly #seen = new Set<string>();
  #errors: FieldError[] = [];
  #dataStart = -1;
  #dataEnd = -1;
  #deepest = 0;

  begin(): void {
    this.#seen.clear();
    this.#errors = [];
    this.#dataStart = -1;
    this.#deepest = 0;
  }

  readonly visit: VisitMember = (name, start, end, depth) => {
    if (this.#seen.has(name) && this.#errors.length < fieldErrorsMax) {
      this.#errors.push({ path: fieldPath(name), message: repeatedMessage });
    }
    this.#seen.add(name);
    if (name !== 'data' && name !== 'data_base64') return;
    this.#dataStart = start;
    this.#dataEnd = end;
    this.#deepest = Math.max(this.#deepest, depth);
  };

  read(body: Buffer, fields: Readonly<Record<string, unknown>>): EventEnvelope | Problem {
    const errors = this.#errors;
    if (this.#deepest > payloadDepthMax) errors.push({ path: '/data', message: tooDeepMessage });
    const isBase64 = this.#seen.has('data_base64');
    if (isBase64 && this.#seen.has('data')) {
      errors.push({ path: '/data_base64', message: 'must not be sent together with data' });
    }
    if (isBase64 && !isBase64Text(fields['data_base64'])) {
      errors.push({ path: '/data_base64', message: 'must be a string of base64 with its padding' });
    }
    const attributes = Object.entries(fields).filter(([name]) => name !== 'data' && name !== 'data_base64');
    const data: Data =
      this.#dataStart < 0
        ? absentData
        : { payload: body.subarray(this.#dataStart, this.#dataEnd), form: isBase64 ? 'base64' : 'json' };
    return toEnvelope(attributes, data, errors, fieldPath);
  }
}

interface Data {
  /** JSON: the data itself, a string of base64, or null where there is none. */
  readonly payload: Buffer;
  readonly form: 'json' | 'base64' | 'absent';
}

const absentData: Data = { payload: Buffer.from('null'), form: 'absent' };
const headerPrefix = 'ce-';
const attributeName = /^[a-z0-9]{1,64}$/;
const required = ['id', 'source', 'specversion'] as const;
/** Never empty. */
const texts: ReadonlySet<string> = new Set([...required, 'datacontenttype', 'dataschema']);
/** Checked as the event's own fields are. */
const fieldsOfEvent: ReadonlySet<string> = new Set(['type', 'subject', 'time']);
const int32Max = 2 ** 31 - 1;

/** `data` stands in no event's attributes: it is the one name that the specification forbids. Here it says what became of the data. */
function toEnvelope(
  attributes: readonly (readonly [name: string, value: unknown])[],
  { payload, form }: Data,
  errors: FieldError[],
  pathOf: (name: string) => string,
): EventEnvelope | Problem {
  if (payload.length > payloadBytesMax) return payloadTooLarge(payload.length);
  const kept = new Map<string, unknown>();
  for (const [name, value] of attributes) {
    // A null is an attribute that is absent.
    if (value === null) continue;
    kept.set(name, value);
    const message = fieldsOfEvent.has(name) ? null : attributeProblem(name, value);
    if (message !== null && errors.length < fieldErrorsMax) errors.push({ path: pathOf(name), message });
  }
  for (const name of required) {
    if (!kept.has(name)) errors.push({ path: pathOf(name), message: 'is required' });
  }
  const type = readType(pathOf('type'), kept.get('type'), errors);
  const subject = readText(pathOf('subject'), kept.get('subject'), errors);
  const occurredAt = readTime(pathOf('time'), kept.get('time'), errors);
  const dedupId = cloudEventDedupId(String(kept.get('source')), String(kept.get('id')));
  kept.delete('type');
  kept.delete('subject');
  if (form !== 'json') kept.set('data', form);
  const text = JSON.stringify(Object.fromEntries(kept));
  if (Buffer.byteLength(text) > attributesBytesMax) {
    errors.push({ path: '', message: `must have attributes of ${attributesBytesMax} bytes at most, all together` });
  }
  if (errors.length > 0 || type === undefined) return invalid(...errors);
  return { type, payload, dedupId, subject, occurredAt, attributes: text };
}

function attributeProblem(name: string, value: unknown): string | null {
  // Only a header can still have it: kept, it would be read as what became of the data.
  if (name === 'data') return 'is no attribute: the body is the data';
  if (!attributeName.test(name)) return 'is no name of an attribute, which has 1 to 64 characters of a-z and 0-9';
  if (name === 'specversion' && value !== '1.0') return 'must be "1.0"';
  if (typeof value === 'string') return value === '' && texts.has(name) ? 'must not be empty' : unstorable(value);
  if (texts.has(name)) return 'must be a string';
  if (typeof value === 'boolean') return null;
  const isInteger = typeof value === 'number' && Number.isInteger(value) && value >= -int32Max - 1 && value <= int32Max;
  return isInteger ? null : 'must be a string, a boolean, or an integer of 32 bits';
}

/** Source and id name an event (the specification wants them unique together); the length keeps any two pairs apart. */
function cloudEventDedupId(source: string, id: string): string {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(Buffer.byteLength(source));
  return `ce_${hash('sha256', Buffer.concat([length, Buffer.from(source + id)]), 'base64url')}`;
}

/** The body of an event in binary mode as the value it is stored as. */
function binaryData(body: Buffer, mediaType: string | undefined, errors: FieldError[]): Data {
  if (body.length === 0) return absentData;
  if (!isJsonType(mediaType)) return { payload: Buffer.from(`"${body.toString('base64')}"`), form: 'base64' };
  if (!isUtf8(body)) throw invalidUtf8('The body');
  parseText(body.toString('utf8'), 'The body');
  // So the scanner finds where the value begins, ends, and how deep it goes.
  const framed = Buffer.concat([Buffer.from('{"":'), body, Buffer.from('}')]);
  const [value] = scanObject(framed, framed.toString('utf8'));
  if (value === undefined) throw new Error('a JSON text without a value');
  if (value.depth > payloadDepthMax) errors.push({ path: '', message: tooDeepMessage });
  return { payload: framed.subarray(value.start, value.end), form: 'json' };
}

/** RFC 6839: a type that ends in +json is JSON. */
function isJsonType(mediaType: string | undefined): boolean {
  return mediaType !== undefined && /^\s*(?:application|text)\/(?:json|[^;\s]+\+json)\s*(?:;|$)/i.test(mediaType);
}

/** HTTP binding, 3.1.3.2: perhaps in double quotes, percent-encoded UTF-8. Null if it is not. */
function headerValue(sent: string): string | null {
  if (!/^[ -~]*$/.test(sent)) return null;
  const bare = /^".*"$/.test(sent) ? sent.slice(1, -1).replaceAll(/\\(.)/g, '$1') : sent;
  try {
    return bare.replaceAll(/(?:%[0-9a-f]{2})+/gi, decodeURIComponent);
  } catch {
    return null;
  }
}

function isBase64Text(value: unknown): boolean {
  return typeof value === 'string' && value.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(value);
}

function accepted(event: EventEnvelope | Problem): EventEnvelope {
  if (event instanceof Problem) throw event;
  return event;
}
