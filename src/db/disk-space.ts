import { statfs } from 'node:fs/promises';
import type { Clock } from '../clock.js';

export interface DiskSpaceOptions {
  readonly folder: string;
  readonly clock: Clock;
  /** Told when space becomes short, and when it is enough again. */
  readonly onChange: (isShort: boolean, freeBytes: number) => void;
  /** Below this, space is short; asked at every look. Default: the larger of 512 MiB and 5 % of the file system. */
  readonly freeBytesMin?: (() => number) | undefined;
}

const checkMs = 1_000;
const freeBytesMinDefault = 512 * 1024 * 1024;
const freeShareMin = 0.05;
/** Space is enough again only when there is this much more than the minimum, so that one event more or less changes nothing. */
const marginShare = 0.02;

/**
 * Watches how much room the file system of the data folder has. A database that runs out of it in the middle of its log stops dead; so events
 * are refused while there is still room for what deletes and acknowledges.
 */
export class DiskSpace {
  readonly #options: DiskSpaceOptions;
  #freeBytes = Infinity;
  #isShort = false;
  #cancel: (() => void) | null = null;

  constructor(options: DiskSpaceOptions) {
    this.#options = options;
  }

  get freeBytes(): number {
    return this.#freeBytes;
  }

  get isShort(): boolean {
    return this.#isShort;
  }

  /** Looks once, then every second until `stop`. */
  async start(): Promise<void> {
    await this.check();
    this.#schedule();
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = null;
  }

  /** A file system that cannot be asked is taken for what it was. */
  async check(): Promise<void> {
    const { folder, freeBytesMin, onChange } = this.#options;
    const found = await statfs(folder).catch(() => null);
    if (found === null) return;
    // What this process may use, without the share that is kept for root.
    this.#freeBytes = found.bavail * found.bsize;
    const min = freeBytesMin?.() ?? Math.max(freeBytesMinDefault, found.blocks * found.bsize * freeShareMin);
    const isShort = this.#freeBytes < (this.#isShort ? min * (1 + marginShare) : min);
    if (isShort === this.#isShort) return;
    this.#isShort = isShort;
    onChange(isShort, this.#freeBytes);
  }

  #schedule(): void {
    this.#cancel = this.#options.clock.after(checkMs, () => void this.#checkAgain());
  }

  async #checkAgain(): Promise<void> {
    await this.check();
    if (this.#cancel !== null) this.#schedule();
  }
}
