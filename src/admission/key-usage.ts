import type { Clock } from '../clock.js';
import type { Database } from '../db/database.js';
import type { KeyUse } from '../db/sql/keys.js';
import { touchKeys } from '../db/sql/keys.js';
import { compareOrgs } from '../ids.js';
import type { Service } from '../lifecycle.js';

const flushMs = 10_000;
const keysMax = 10_000;

/**
 * Remembers when each key was last used and writes it down now and then: a write per request would cost more than the request. What a
 * killed process had not written yet is lost; `last_used_at` is for people, nothing depends on it.
 */
export class KeyUsage implements Service {
  readonly name = 'key usage';
  readonly #uses = new Map<string, { org: string; atMs: number }>();
  #cancelTimer: (() => void) | null = null;
  #flushing: Promise<void> = Promise.resolve();

  constructor(
    private readonly database: Database,
    private readonly clock: Clock,
    private readonly onFailure: (error: unknown) => void,
  ) {}

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
    await this.#flushing;
    await this.flush();
  }

  /** Never rejects: a failed write is reported and its uses are forgotten. */
  async flush(): Promise<void> {
    if (this.#uses.size === 0) return;
    const uses: KeyUse[] = Array.from(this.#uses, ([keyId, { org, atMs }]) => ({ org, keyId, at: new Date(atMs) }));
    this.#uses.clear();
    uses.sort((a, b) => compareOrgs(a.org, b.org) || (a.keyId < b.keyId ? -1 : 1));
    try {
      await touchKeys(this.database, uses);
    } catch (error) {
      this.onFailure(error);
    }
  }
}
