import type { Clock } from '../clock.js';
import type { Database } from '../db/database.js';
import type { KeyUse } from '../db/sql/keys.js';
import { touchKeys } from '../db/sql/keys.js';
import { compareOrgs } from '../ids.js';
import type { Service } from '../lifecycle.js';
import { Rest } from '../rest.js';

const flushMs = 10_000;
/** From one writing to the next, which takes 4 s for so many; uses of others are not noted meanwhile. */
const keysMax = 10_000;
/** In one statement: nobody else is served meanwhile by the embedded engine, which takes 5 ms for so many. All of them would be 0.15 to 0.2 s. */
const keysPerWrite = 250;
const restMs = 100;

/**
 * Remembers when each key was last used and writes it down now and then: a write per request would cost more than the request. What a
 * killed process had not written yet is lost; `last_used_at` is for people, nothing depends on it.
 */
export class KeyUsage implements Service {
  readonly name = 'key usage';
  readonly #uses = new Map<string, { org: string; atMs: number }>();
  #cancelTimer: (() => void) | null = null;
  #flushing: Promise<void> = Promise.resolve();
  readonly #rest: Rest;

  constructor(
    private readonly database: Database,
    private readonly clock: Clock,
    private readonly onFailure: (error: unknown) => void,
  ) {
    this.#rest = new Rest(clock);
  }

  used(org: string, keyId: string): void {
    const use = this.#uses.get(keyId);
    if (use !== undefined) use.atMs = this.clock.now();
    else if (this.#uses.size < keysMax) this.#uses.set(keyId, { org, atMs: this.clock.now() });
  }

  start(): Promise<void> {
    this.#cancelTimer = this.clock.after(flushMs, () => {
      this.#flushing = this.#flushAndGoOn();
    });
    return Promise.resolve();
  }

  async #flushAndGoOn(): Promise<void> {
    await this.flush();
    if (this.#cancelTimer !== null) await this.start();
  }

  async stop(): Promise<void> {
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    this.#rest.cutShort();
    await this.#flushing;
    await this.flush();
  }

  /** Never rejects: a failed write is reported, and its uses and those behind it are forgotten. */
  async flush(): Promise<void> {
    if (this.#uses.size === 0) return;
    const uses: KeyUse[] = Array.from(this.#uses, ([keyId, { org, atMs }]) => ({ org, keyId, at: new Date(atMs) }));
    this.#uses.clear();
    uses.sort((a, b) => compareOrgs(a.org, b.org) || (a.keyId < b.keyId ? -1 : 1));
    try {
      while (uses.length > 0) {
        // When the node stops, nobody else is served any more, and what is left goes at once.
        const isRunning = this.#cancelTimer !== null;
        await touchKeys(this.database, uses.splice(0, isRunning ? keysPerWrite : uses.length));
        if (uses.length > 0 && this.#cancelTimer !== null) await this.#rest.take(restMs);
      }
    } catch (error) {
      this.onFailure(error);
    }
  }
}
