/**
 * The log: JSON lines on standard error, so that standard output holds only what the program says to the person who starts it. No secret and
 * no payload is in it, wherever in a line's fields it sits.
 */
import { pino } from 'pino';
import type { Logger } from 'pino';
import type { Config } from './settings.js';

export type { Logger } from 'pino';

/** What waits for a reader of the log that has stalled. Lines beyond it are dropped: logging never eats the server's memory. */
const bufferBytesMax = 4 * 1024 * 1024;

/**
 * Writes in the background; what is still buffered when the process exits is written then, though maybe in another order. `fd` is a file descriptor: 2, unless a test reads along.
 */
export function createLogger(level: Config['logLevel'], fd = 2): Logger {
  return pino(
    {
      level,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }), log: (fields) => redact(fields) },
      // The names besides, because a child logger's own fields pass no formatter.
      serializers: { ...Object.fromEntries(secretFields.map((name) => [name, () => censor])), err: serializeError },
    },
    // A write begins with the first byte. With 0 it would too, but flush would no longer wait for its end.
    pino.destination({ fd, sync: false, minLength: 1, maxLength: bufferBytesMax }),
  );
}

/** Resolves when every line so far is written, in order, or cannot be. It never resolves while the log's reader stalls. */
export function flushed(log: Logger): Promise<void> {
  return new Promise((resolve) => log.flush(() => resolve()));
}

const secretFields = ['authorization', 'x-api-key', 'key', 'secret', 'payload'];
const censor = '[redacted]';
const depthMax = 4;

/**
 * A copy without the values of secret fields, made only where there are any. A walk, because pino's own redaction with wildcards cost 45 µs a
 * line where this costs about three.
 */
function redact(fields: Record<string, unknown>, depth = 1): Record<string, unknown> {
  let copy: Record<string, unknown> | undefined;
  for (const name of Object.keys(fields)) {
    const value = fields[name];
    const safe = secretFields.includes(name.toLowerCase()) ? censor : redactValue(value, depth);
    if (safe !== value) (copy ??= { ...fields })[name] = safe;
  }
  return copy ?? fields;
}

function redactValue(value: unknown, depth: number): unknown {
  if (!isPlain(value) && !Array.isArray(value)) return value;
  if (depth >= depthMax) return '[too deep]';
  if (!Array.isArray(value)) return redact(value, depth + 1);
  const safe = value.map((item: unknown) => redactValue(item, depth + 1));
  return safe.some((item, index) => item !== value[index]) ? safe : value;
}

function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/**
 * An error by its known fields only: a database's error also carries `detail` and `where`, and these quote the row, payload included.
 */
function serializeError(error: unknown, depth = 1): unknown {
  if (!(error instanceof Error)) return { type: typeof error };
  const { name, message, stack, cause } = error;
  const serialized: Record<string, unknown> = { type: name, message, stack };
  for (const field of ['code', 'sqlstate', 'kind', 'syscall'] as const) {
    const value: unknown = Reflect.get(error, field);
    if (typeof value === 'string') serialized[field] = value;
  }
  if (cause !== undefined && depth < depthMax) serialized['cause'] = serializeError(cause, depth + 1);
  if (error instanceof AggregateError && depth < depthMax) {
    serialized['errors'] = error.errors.map((inner) => serializeError(inner, depth + 1));
  }
  return serialized;
}
