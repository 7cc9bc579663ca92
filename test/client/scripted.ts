import { Sluice } from '../../src/client/index.js';
import type { SluiceOptions } from '../../src/client/index.js';
import { TestClock } from '../support/test-clock.js';

/** A request as the client made it. */
export interface SentRequest {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly headers: Headers;
  readonly body: string;
  readonly signal: AbortSignal;
  /** Milliseconds since the first moment of the clock. */
  readonly atMs: number;
}

export type Answer = (request: SentRequest) => Response | Promise<Response>;

/** A client whose requests are answered by functions, one each and the last one from then on, and whose time passes only while it waits. */
export function scripted(answers: readonly Answer[], options: Partial<SluiceOptions> = {}) {
  const clock = new EagerClock();
  const requests: SentRequest[] = [];
  const fetchScripted = async (input: string | URL | Request, init: RequestInit = {}): Promise<Response> => {
    const url = new URL(input instanceof Request ? input.url : input);
    const request = {
      method: init.method ?? 'GET',
      path: url.pathname + url.search,
      headers: new Headers(init.headers),
      body: typeof init.body === 'string' ? init.body : '',
      signal: init.signal ?? new AbortController().signal,
      atMs: clock.monotonic(),
    };
    requests.push(request);
    const answer = answers[Math.min(requests.length, answers.length) - 1];
    if (answer === undefined) throw new Error('no answer is left');
    return answer(request);
  };
  const sluice = new Sluice({
    url: 'http://sluice.test',
    key: `slk_live_${'k'.repeat(43)}`,
    fetch: fetchScripted,
    clock,
    ...options,
  });
  return { sluice, requests, clock };
}

/** As soon as nothing but timers is waited for, the time of the next one comes. Chance is always the middle. */
class EagerClock extends TestClock {
  #due: number[] = [];

  override after(delayMs: number, fire: () => void): () => void {
    const dueAt = this.monotonic() + delayMs;
    const forget = (): void => {
      this.#due = this.#due.filter((other) => other !== dueAt);
    };
    this.#due.push(dueAt);
    const cancel = super.after(delayMs, () => {
      forget();
      fire();
    });
    // After the promises that are settled by now have run their course.
    setImmediate(() => {
      const next = Math.min(...this.#due);
      if (Number.isFinite(next) && next > this.monotonic()) this.advance(next - this.monotonic());
    });
    return () => {
      forget();
      cancel();
    };
  }

  random(): number {
    return 0.5;
  }
}

export function json(status: number, body: unknown, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(body), { status, headers: { 'Content-Type': 'application/json', ...headers } });
}

export function problem(
  status: number,
  code: string,
  headers: Record<string, string> = {},
  extra: object = {},
): Response {
  return json(
    status,
    { type: `/docs/errors#${code}`, title: 'x', status, detail: `detail of ${code}`, code, ...extra },
    { 'Content-Type': 'application/problem+json', 'X-Request-Id': 'request-1', ...headers },
  );
}

/** As `fetch` fails when a connection does. */
export function broken(code: string): never {
  throw new TypeError('fetch failed', { cause: Object.assign(new Error(code), { code }) });
}

/** Never answers; fails as `fetch` does when its signal is aborted. */
export function silent({ signal }: SentRequest): Promise<Response> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(new DOMException('This operation was aborted', 'AbortError')));
  });
}

export const receipt = {
  id: 'evt_0000000000000000000000000001',
  type: 'a.b',
  received_at: '2026-11-21T10:00:00.000Z',
  durability: 'fsync',
  duplicate: false,
};
