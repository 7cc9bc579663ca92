import type { Clock } from '../clock.js';
import type { Database } from '../db/database.js';
import type { RunningErasure } from '../db/sql/erasures.js';
import { deleteCertificates, runningErasures } from '../db/sql/erasures.js';
import { partitionDays } from '../db/sql/partitions.js';
import type { Service } from '../lifecycle.js';
import { Rounds } from '../rounds.js';
import type { EraseStepLimits } from '../subscriptions/erase.js';
import { eraseStep, eraseStepLimits } from '../subscriptions/erase.js';
import { certificateDays } from './erasures.js';

export interface SubjectErasureOptions {
  readonly database: Database;
  readonly clock: Clock;
  /** Told of each step: how many events it deleted, and whether it was the last of its erasure. */
  readonly onStep: (events: number, isDone: boolean) => void;
  readonly onFailure: (error: unknown) => void;
  readonly limits?: EraseStepLimits;
}

const orgsPage = 100;
const certificatesMax = 500;
const dayMs = 86_400_000;

/**
 * Erases subjects: step after step, each in a transaction of its own that also notes how far it came, so that it may be killed at any moment, and any node
 * goes on. Every org that has something to erase gets a step in its turn, for the oldest of its erasures.
 */
export class SubjectErasure implements Service {
  readonly name = 'subject erasure';
  readonly #options: Required<SubjectErasureOptions>;
  readonly #rounds: Rounds;

  constructor(options: SubjectErasureOptions) {
    this.#options = { limits: eraseStepLimits, ...options };
    this.#rounds = new Rounds(options.clock, () => this.#eraseAll());
  }

  start(): Promise<void> {
    this.#rounds.start();
    return Promise.resolve();
  }

  /** Resolves when the step under way is done. */
  stop(): Promise<void> {
    return this.#rounds.stop();
  }

  /** Looks at once: something is to be erased. */
  check(): void {
    this.#rounds.check();
  }

  /** False if there is more to do later. Never rejects. */
  async #eraseAll(): Promise<boolean> {
    const { database, clock, onFailure } = this.#options;
    try {
      const before = new Date(clock.now() - certificateDays * dayMs);
      await deleteCertificates(database, before, certificatesMax);
      for (;;) {
        const { orgs, steps } = await this.#stepOfEach();
        if (orgs === 0) return true;
        // What is left fails, or is another node's.
        if (steps === 0 || this.#rounds.isStopped) return false;
        await this.#rounds.pause();
      }
    } catch (error) {
      onFailure(error);
      return false;
    }
  }

  /** One step for each org that has an erasure under way. How many orgs have, and for how many there was a step. */
  async #stepOfEach(): Promise<{ readonly orgs: number; readonly steps: number }> {
    const { database } = this.#options;
    let [orgs, steps] = [0, 0];
    for (let after = '0'; ;) {
      const running = await runningErasures(database, after, orgsPage);
      const [firstDay = 0] = running.length === 0 ? [] : await partitionDays(database);
      for (const erasure of running) {
        if (this.#rounds.isStopped) return { orgs, steps };
        if (await this.#step(erasure, firstDay)) steps++;
        after = erasure.org;
      }
      orgs += running.length;
      if (running.length < orgsPage) return { orgs, steps };
    }
  }

  /** False if it failed, or another node is at it. One erasure that fails does not keep the others. */
  async #step({ org, erasure }: RunningErasure, firstDay: number): Promise<boolean> {
    const { database, clock, limits, onStep, onFailure } = this.#options;
    try {
      const step = await eraseStep(database, org, erasure, firstDay, new Date(clock.now()), limits);
      if (step !== null) onStep(step.events, step.isDone);
      return step !== null;
    } catch (error) {
      onFailure(error);
      return false;
    }
  }
}
