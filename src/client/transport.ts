/** One request with its deadline, and the attempts that a call is worth. */
import { sleep } from './clock.js';
import type { ClientClock } from './clock.js';
import { SluiceError, uncertain } from './error.js';
import type { FieldError } from './error.js';
import { onAbort } from './on-abort.js';
import { nextAttemptDelayMs } from './retry.js';
import type { Repeat, RetryLimits } from './retry.js';

export interface TransportOptions {
  /** Without a slash at its end. */
  readonly url: string;
  readonly key: string;
  /** Seconds that one attempt may take, beyond what it asks the server to wait. */
  readonly requestSeconds: number;
  readonly retry: RetryLimits;
  readonly clock: ClientClock;
  readonly fetch: typeof fetch;
}

export type QueryValue = string | number | readonly string[] | undefined;

export interface Call {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  /** Below the server's URL, its parts encoded. */
  readonly path: string;
  readonly query?: Readonly<Record<string, QueryValue>>;
  /** JSON text. */
  readonly body?: string | undefined;
  readonly repeat: Repeat;
  readonly signal?: AbortSignal | undefined;
  /** Seconds that the server was asked to wait before it answers. */
  readonly waitSeconds?: number;
}

export interface Reply {
  readonly status: number;
  readonly text: string;
  readonly requestId: string | null;
}

/** A reply with events stops at 4 MiB and at least one event, so this is far beyond any. */
const replyBytesMax = 64 * 1024 * 1024;

export class Transport {
  constructor(private readonly options: TransportOptions) {}

  get clock(): ClientClock {
    return this.options.clock;
  }

  get retryLimits(): RetryLimits {
    return this.options.retry;
  }

  /** The JSON of a 2xx; undefined where it has no body. Throws a `SluiceError`, or the reason of the caller's signal. */
  async json<Value>(call: Call): Promise<Value> {
    return parsed(await this.request(call)) as Value;
  }

  /** A 2xx. Throws a `SluiceError`, which speaks of all attempts, or the reason of the caller's signal. */
  async request(call: Call): Promise<Reply> {
    const { clock, retry } = this.options;
    const beganAt = clock.monotonic();
    let mayHaveTakenEffect = false;
    for (let attempt = 1; ; attempt++) {
      call.signal?.throwIfAborted();
      try {
        return await this.#attempt(call);
      } catch (error) {
        if (!(error instanceof SluiceError)) throw error;
        const at = { attempt, elapsedMs: clock.monotonic() - beganAt, random: clock.random() };
        const delayMs = nextAttemptDelayMs(error, call.repeat, at, retry);
        mayHaveTakenEffect ||= error.mayHaveTakenEffect;
        if (delayMs === null) throw mayHaveTakenEffect ? uncertain(error) : error;
        await sleep(clock, delayMs, call.signal);
      }
    }
  }

  async #attempt(call: Call): Promise<Reply> {
    const { clock, requestSeconds } = this.options;
    const seconds = requestSeconds + (call.waitSeconds ?? 0);
    const controller = new AbortController();
    const forget = onAbort(call.signal, () => controller.abort(call.signal?.reason));
    let isLate = false;
    const disarm = clock.after(seconds * 1000, () => {
      isLate = true;
      controller.abort();
    });
    try {
      const response = await this.#fetch(call, controller.signal);
      const text = await readText(response, controller);
      return replyOf(response, text);
    } catch (error) {
      if (error instanceof SluiceError) throw error;
      if (call.signal?.aborted === true) throw call.signal.reason;
      if (isLate) throw noAnswer(`${this.options.url} did not answer within ${seconds} seconds.`, error);
      throw this.#connectionError(error);
    } finally {
      disarm();
      forget();
    }
  }

  #fetch(call: Call, signal: AbortSignal): Promise<Response> {
    const headers: Record<string, string> = {
      Authorization: `Bearer ${this.options.key}`,
      Accept: 'application/json, application/problem+json',
    };
    if (call.body !== undefined) headers['Content-Type'] = 'application/json';
    return this.options.fetch(`${this.options.url}${call.path}${queryText(call.query ?? {})}`, {
      method: call.method,
      headers,
      ...(call.body === undefined ? {} : { body: call.body }),
      // Followed, a redirect would turn a POST into a GET, and take the key elsewhere.
      redirect: 'manual',
      signal,
    });
  }

  #connectionError(error: unknown): SluiceError {
    const code = causeCode(error);
    if (code !== null && (notSentCodes.has(code) || code === badPort)) {
      return new SluiceError({
        status: null,
        code: 'unreachable',
        detail: `No server answers at ${this.options.url} (${code}).`,
        cause: error,
      });
    }
    return noAnswer(`The connection to ${this.options.url} broke${code === null ? '' : ` (${code})`}.`, error);
  }
}

/** What fails before a byte of the request leaves. */
const notSentCodes = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'UND_ERR_CONNECT_TIMEOUT',
]);

/** What fetch says of a port that it does not connect to for fear of abuse (https://fetch.spec.whatwg.org/#port-blocking). */
const badPort = 'bad port';

function noAnswer(detail: string, cause: unknown): SluiceError {
  return new SluiceError({ status: null, code: 'no_answer', detail, mayHaveTakenEffect: true, cause });
}

/** `fetch` wraps what went wrong; of several addresses that were tried, the first one speaks. */
function causeCode(error: unknown): string | null {
  let at: unknown = error;
  for (let depth = 0; depth < 4 && at instanceof Error; depth++) {
    const code: unknown = Reflect.get(at, 'code');
    if (typeof code === 'string') return code;
    if (at.message === badPort) return badPort;
    at = at instanceof AggregateError ? at.errors[0] : at.cause;
  }
  return null;
}

async function readText(response: Response, controller: AbortController): Promise<string> {
  if (response.body === null) return '';
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  let text = '';
  for (let bytes = 0; ;) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    bytes += value.length;
    if (bytes > replyBytesMax) {
      controller.abort();
      throw badReply(response, `The answer has more than ${replyBytesMax} bytes; is this the URL of a Sluice server?`);
    }
    text += decoder.decode(value, { stream: true });
  }
}

function replyOf(response: Response, text: string): Reply {
  const { status } = response;
  if (status >= 200 && status < 300) return { status, text, requestId: requestIdOf(response) };
  if (status >= 300 && status < 400) {
    const target = response.headers.get('location');
    const where = target === null ? 'elsewhere' : `to ${new URL(target, response.url).origin}`;
    throw badReply(response, `The server redirects ${where}; use that URL.`);
  }
  throw refusal(response, text);
}

function refusal(response: Response, text: string): SluiceError {
  const { status } = response;
  const problem = problemOf(text);
  const code = problem?.code ?? (status === 429 ? 'rate_limited' : 'bad_reply');
  // Behind a proxy that gave up, the server may be at work all the same.
  const mayHaveTakenEffect = code === 'outcome_unknown' || status === 500 || status === 502 || status === 504;
  return new SluiceError({
    status,
    code,
    detail: problem?.detail ?? `The answer ${status} says no more than that; is this the URL of a Sluice server?`,
    requestId: requestIdOf(response),
    errors: problem?.errors ?? [],
    retryAfterSeconds: retryAfterOf(response),
    mayHaveTakenEffect,
    problem,
  });
}

interface ProblemBody extends Readonly<Record<string, unknown>> {
  readonly code: string;
  readonly detail: string;
  readonly errors?: readonly FieldError[];
}

function problemOf(text: string): ProblemBody | null {
  try {
    const value = JSON.parse(text) as Partial<ProblemBody> | null;
    return typeof value?.code === 'string' && typeof value.detail === 'string' ? (value as ProblemBody) : null;
  } catch {
    return null;
  }
}

/** Seconds; Sluice sends no dates. */
function retryAfterOf(response: Response): number | null {
  const text = response.headers.get('retry-after');
  return text !== null && /^\d{1,9}$/.test(text) ? Number(text) : null;
}

function requestIdOf(response: Response): string | null {
  return response.headers.get('x-request-id');
}

function badReply(response: Response, detail: string): SluiceError {
  return new SluiceError({ status: response.status, code: 'bad_reply', detail, requestId: requestIdOf(response) });
}

/** The JSON of a reply. Throws a `SluiceError` of code `bad_reply` for what is none. */
export function parsed({ status, text, requestId }: Reply): unknown {
  try {
    return text === '' ? undefined : JSON.parse(text);
  } catch (cause) {
    const detail = 'The answer is not JSON; is this the URL of a Sluice server?';
    throw new SluiceError({ status, code: 'bad_reply', detail, requestId, cause });
  }
}

function queryText(query: Readonly<Record<string, QueryValue>>): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value === undefined) continue;
    for (const one of Array.isArray(value) ? (value as readonly string[]) : [String(value)]) {
      parameters.append(name, one);
    }
  }
  const text = parameters.toString();
  return text === '' ? '' : `?${text}`;
}
