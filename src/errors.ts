/**
 * Every error a client can see, in one table: code → HTTP status and public title. `docs/errors.md` lists the same codes and a
 * test holds the two together. The public `detail` says what to do next; the internal cause stays in `cause` and goes to the log only.
 */
export const errorTable = {
  bad_request: { status: 400, title: 'Malformed request' },
  invalid_json: { status: 400, title: 'The body is not JSON' },
  invalid_utf8: { status: 400, title: 'The body is not UTF-8' },
  invalid_cursor: { status: 400, title: 'Unusable cursor' },
  missing_key: { status: 401, title: 'No API key' },
  invalid_key: { status: 401, title: 'Unknown API key' },
  insufficient_scope: { status: 403, title: 'The key lacks a scope' },
  org_suspended: { status: 403, title: 'The organisation is suspended' },
  not_found: { status: 404, title: 'Not found' },
  method_not_allowed: { status: 405, title: 'Method not allowed' },
  not_acceptable: { status: 406, title: 'Not acceptable' },
  request_timeout: { status: 408, title: 'The request took too long to arrive' },
  dedup_mismatch: { status: 409, title: 'The dedup id belongs to another event' },
  name_taken: { status: 409, title: 'The name is taken' },
  lease_expired: { status: 409, title: 'The lease has ended' },
  limit_reached: { status: 409, title: 'A limit is reached' },
  payload_too_large: { status: 413, title: 'Too large' },
  batch_too_large: { status: 413, title: 'The batch is too large' },
  rate_exceeds_burst: { status: 413, title: 'More events than the rate limit can ever admit at once' },
  uri_too_long: { status: 414, title: 'The address is too long' },
  unsupported_media_type: { status: 415, title: 'Unsupported media type' },
  validation_failed: { status: 422, title: 'The request is not valid' },
  not_stored: { status: 422, title: 'Not stored, because another event of the batch was refused' },
  rate_limited: { status: 429, title: 'Too many requests' },
  headers_too_large: { status: 431, title: 'The headers are too large' },
  internal: { status: 500, title: 'Internal error' },
  overloaded: { status: 503, title: 'Overloaded' },
  storage_unavailable: { status: 503, title: 'The storage is unavailable' },
  outcome_unknown: { status: 503, title: 'Stored or not: unknown' },
} as const satisfies Record<string, { status: number; title: string }>;

export type ErrorCode = keyof typeof errorTable;

/** One thing wrong with the request. `path` is a JSON Pointer into the body, or `?name` for a query parameter. */
export interface FieldError {
  readonly path: string;
  readonly message: string;
}

export interface ProblemOptions {
  readonly errors?: readonly FieldError[];
  readonly retryAfterSeconds?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Further members of the reply (RFC 9457, 3.2). */
  readonly members?: Readonly<Record<string, unknown>>;
  /** For the log only; never shown to a client. */
  readonly cause?: unknown;
}

/** A refusal that a client will read. Thrown anywhere, rendered in one place (`http/problem.ts`). */
export class Problem extends Error {
  override readonly name = 'Problem';
  readonly code: ErrorCode;
  readonly detail: string;
  readonly errors: readonly FieldError[] | undefined;
  readonly retryAfterSeconds: number | undefined;
  readonly headers: Readonly<Record<string, string>>;
  readonly members: Readonly<Record<string, unknown>> | undefined;

  constructor(code: ErrorCode, detail: string, options: ProblemOptions = {}) {
    super(`${code}: ${detail}`, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.detail = detail;
    this.errors = options.errors;
    this.retryAfterSeconds = options.retryAfterSeconds;
    this.headers = options.headers ?? {};
    this.members = options.members;
  }

  get status(): number {
    return errorTable[this.code].status;
  }
}

/** 422 with the one or more fields that are wrong. */
export function invalid(...errors: readonly FieldError[]): Problem {
  const detail = errors
    .map(({ path, message }) => (path === '' ? `The body ${message}` : `${path}: ${message}`))
    .join('; ');
  return new Problem('validation_failed', detail, { errors });
}
