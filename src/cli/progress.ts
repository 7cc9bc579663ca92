import type { Clock } from '../clock.js';

const terminalMs = 1_000;
const otherMs = 10_000;

/** `1 org`, `2 orgs`. */
export function amount(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** How a long command comes along, on standard error: one line that is written over on a terminal, a line every ten seconds elsewhere. */
export class Progress {
  readonly #beganAt: number;
  #toldAt: number;
  #firstEvents: number | null = null;
  #isOnLine = false;

  constructor(
    private readonly clock: Clock,
    private readonly out: { readonly isTTY?: boolean; write(text: string): unknown },
    private readonly noun = 'events',
  ) {
    this.#beganAt = clock.monotonic();
    this.#toldAt = this.#beganAt;
  }

  /** `events` (or what else is counted) are all that are behind it; those of an earlier try, which the first call tells, do not count for the rate. */
  at(events: number, describe: () => string): void {
    this.#firstEvents ??= events;
    const now = this.clock.monotonic();
    if (now - this.#toldAt < (this.out.isTTY === true ? terminalMs : otherMs)) return;
    this.#toldAt = now;
    const perSecond = Math.round(((events - this.#firstEvents) * 1000) / Math.max(1, now - this.#beganAt));
    const text = `${events} ${this.noun}, ${perSecond}/s, ${describe()}`;
    this.out.write(this.out.isTTY === true ? `\r\u001b[K${text}` : `${text}\n`);
    this.#isOnLine = this.out.isTTY === true;
  }

  /** The last word, on a line of its own. */
  end(text: string): void {
    this.out.write(`${this.#isOnLine ? '\r\u001b[K' : ''}${text}\n`);
    this.#isOnLine = false;
  }
}
