/**
 * The lines of an export: JSON objects, one a line, each named by its first member `line`. docs/export.md describes them for whoever reads an
 * export with other tools.
 *
 *   export                                               the format, its version, the schema's version
 *   org  key*  head  subscription*  lease*  dead_letter*  what an org is and how far its consumers are, at one moment
 *   event*  dedup*  org_end                               its log up to that head, and the counts of all these lines
 *   checkpoint                                            after every chunk: the running SHA-256 of all bytes before it
 *   end                                                   the counts of the whole export, and the SHA-256 of all bytes before it
 */
import type { Static, TSchema } from '@sinclair/typebox';
import { Type } from '@sinclair/typebox';
import { TypeCompiler } from '@sinclair/typebox/compiler';
import { formatTime, parseTime } from '../time-format.js';

export const formatName = 'sluice-export';
export const formatVersion = 2;

/** A chunk ends with the line that reaches one of these. */
export const chunkLinesMax = 1_000;
export const chunkBytesMax = 4 * 1024 * 1024;
/** An event's payload has at most 256 KiB and a subscription's sets at most some MiB; more than this is no line of an export. */
export const lineBytesMax = 16 * 1024 * 1024;

const nullable = <Schema extends TSchema>(schema: Schema) => Type.Union([schema, Type.Null()]);
const line = <const Name extends string, Fields extends Record<string, TSchema>>(name: Name, fields: Fields) =>
  Type.Object({ line: Type.Literal(name), ...fields }, { additionalProperties: false });

const org = Type.String({ pattern: '^[1-9][0-9]{0,14}$' });
const position = Type.Integer({ minimum: 0, maximum: 2 ** 48 - 1 });
const epoch = Type.Integer({ minimum: 0, maximum: 2 ** 24 - 1 });
const day = Type.Integer({ minimum: 0, maximum: 2 ** 20 - 1 });
const number = Type.Integer({ minimum: -(2 ** 31), maximum: 2 ** 31 - 1 });
const limit = nullable(Type.Integer({ minimum: 1 }));
const time = Type.String({ maxLength: 24 });
const text = Type.String();
const sha256 = Type.String({ pattern: '^[0-9a-f]{64}$' });
const positions = Type.String({ pattern: '^\\{([[]\\d{1,15},\\d{1,15}[)],?)*\\}$' });

/** The lines of an org's data, in the order in which they stand. */
export const dataLines = {
  org: line('org', {
    org,
    name: text,
    tier: text,
    rate_per_minute: limit,
    burst: limit,
    limit_mode: text,
    retention_days: number,
    suspended: Type.Boolean(),
    created_at: time,
  }),
  /** `hash` is the SHA-256 of the key, which itself is stored nowhere. */
  key: line('key', {
    key_id: text,
    hash: sha256,
    name: text,
    prefix: text,
    scopes: Type.Array(text),
    created_at: time,
    expires_at: nullable(time),
    retires_at: nullable(time),
    last_used_at: nullable(time),
  }),
  head: line('head', { epoch, position, day, received_at: time, first_position: position, first_day: day }),
  subscription: line('subscription', {
    subscription: number,
    kind: text,
    name: text,
    max_attempts: number,
    cursor: position,
    cursor_day: day,
    ahead: positions,
    held: position,
    dead: position,
    expired: position,
    /** Absent in exports of before there was erasure. */
    erased: Type.Optional(position),
    skipped: positions,
    filters: Type.Array(
      Type.Object({ from: position, types: nullable(Type.Array(text)) }, { additionalProperties: false }),
    ),
    created_at: time,
  }),
  lease: line('lease', {
    subscription: number,
    lease: text,
    attempt: number,
    available_at: time,
    positions,
    first_day: day,
    last_day: day,
    waiting: Type.Boolean(),
  }),
  dead_letter: line('dead_letter', { subscription: number, position, day, attempts: number, died_at: time }),
  /** `payload` and `attributes` are strings that hold the stored JSON text, so that no reader and no writer of JSON can change a byte of it. */
  event: line('event', {
    position,
    epoch,
    day,
    type: text,
    subject: nullable(text),
    occurred_at: nullable(time),
    received_at: time,
    attributes: nullable(text),
    payload: text,
  }),
  dedup: line('dedup', { dedup_id: text, epoch, position, day, received_at: time, body_hash: sha256 }),
} as const;

export type DataKind = keyof typeof dataLines;
export type DataLine<Kind extends DataKind> = Static<(typeof dataLines)[Kind]>;
export const dataKinds = Object.keys(dataLines) as readonly DataKind[];

const checks: Partial<Record<DataKind, (value: unknown) => boolean>> = {};

/** Reads one line of data. Throws a `FormatError` if it is not of its kind. */
export function parseLine<Kind extends DataKind>(kind: Kind, lineText: string): DataLine<Kind> {
  const schema = dataLines[kind];
  const check = (checks[kind] ??= (
    (validator) => (value: unknown) =>
      validator.Check(value)
  )(TypeCompiler.Compile<TSchema>(schema)));
  let value: unknown;
  try {
    value = JSON.parse(lineText);
  } catch (error) {
    throw new FormatError(`a line "${kind}" is no JSON`, { cause: error });
  }
  if (!check(value)) throw new FormatError(`a line "${kind}" has other members than this version knows`);
  return value as DataLine<Kind>;
}

export function headerLine(schemaVersion: number): string {
  return JSON.stringify({ line: 'export', format: formatName, version: formatVersion, schema: schemaVersion });
}

export function checkpointLine(chunk: number, checksum: string): string {
  return JSON.stringify({ line: 'checkpoint', chunk, sha256: checksum });
}

/** The kind of a line, from its beginning; undefined if it does not begin as a line of an export. */
export function kindOf(beginning: string): string | undefined {
  return lineBeginning.exec(beginning)?.[1];
}

const lineBeginning = /^\{"line":"([a-z_]{1,16})"/;

/** Times are stored in milliseconds everywhere. */
export function timeText(date: Date): string {
  return formatTime(date.getTime());
}

export function timeMs(timeOfLine: string): number {
  const parsed = parseTime(timeOfLine);
  if ('problem' in parsed) throw new FormatError(`the time ${JSON.stringify(timeOfLine)} ${parsed.problem}`);
  return parsed.ms;
}

/** The file is not what an export of this version is: damaged, cut short, or something else. The message says which, and what to do. */
export class FormatError extends Error {
  override readonly name = 'FormatError';
}
