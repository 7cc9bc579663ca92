/** One thing wrong with a request. `path` is a JSON Pointer into the body, or `?name` for a query parameter. */
export interface FieldError {
  readonly path: string;
  readonly message: string;
}

/** What a server that is none, or none that can be heard, leads to; the other codes are the server's own (docs/errors.md). */
export type ClientErrorCode =
  /** No connection: nothing was sent. */
  | 'unreachable'
  /** The connection broke, or no answer came in time: what was asked for may have been done. */
  | 'no_answer'
  /** The answer is not one of Sluice. */
  | 'bad_reply';

export interface SluiceErrorFields {
  readonly status: number | null;
  readonly code: string;
  readonly detail: string;
  readonly requestId?: string | null;
  readonly errors?: readonly FieldError[];
  readonly retryAfterSeconds?: number | null;
  readonly mayHaveTakenEffect?: boolean;
  readonly problem?: Readonly<Record<string, unknown>> | null;
  readonly cause?: unknown;
}

/** A request that was refused or not answered, after the retries that it was worth. It never holds the key. */
export class SluiceError extends Error {
  override readonly name = 'SluiceError';
  /** The HTTP status; null when there was no answer. */
  readonly status: number | null;
  /** Decide by this one: a code of the server, or a `ClientErrorCode`. */
  readonly code: string;
  /** For people: what is wrong and what to do next. */
  readonly detail: string;
  /** By which the server's log names the request; null when there was no answer. */
  readonly requestId: string | null;
  /** Each field that is wrong. */
  readonly errors: readonly FieldError[];
  /** What the server asked to wait; null when it named nothing. */
  readonly retryAfterSeconds: number | null;
  /** True when it is not known whether what was asked for was done. */
  readonly mayHaveTakenEffect: boolean;
  /** The whole answer (RFC 9457), such as the `results` of a refused atomic batch; null when there was none. */
  readonly problem: Readonly<Record<string, unknown>> | null;

  constructor(fields: SluiceErrorFields) {
    super(`${fields.code}: ${fields.detail}`, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.status = fields.status;
    this.code = fields.code;
    this.detail = fields.detail;
    this.requestId = fields.requestId ?? null;
    this.errors = fields.errors ?? [];
    this.retryAfterSeconds = fields.retryAfterSeconds ?? null;
    this.mayHaveTakenEffect = fields.mayHaveTakenEffect ?? false;
    this.problem = fields.problem ?? null;
  }
}

/** The same failure of an attempt, after an earlier one may have done what was asked for. */
export function uncertain(error: SluiceError): SluiceError {
  if (error.mayHaveTakenEffect) return error;
  const { status, code, detail, requestId, errors, retryAfterSeconds, problem } = error;
  const same = { status, code, detail, requestId, errors, retryAfterSeconds, problem };
  return new SluiceError({ ...same, mayHaveTakenEffect: true, cause: error });
}
