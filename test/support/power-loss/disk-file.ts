import { readFileSync } from 'node:fs';
import type { Random } from './random.js';

const pageBytes = 8192;
const sectorBytes = 512;

export interface Fate {
  readonly content: Buffer;
  /** What is not as the program left it; null if everything is. */
  readonly loss: string | null;
}

export interface Odds {
  /** Of a page to be written back in its last state, and of the rest to be torn. */
  readonly keep: number;
  readonly tear: number;
}

type Pending =
  | { readonly kind: 'write'; readonly position: number; readonly bytes: Buffer }
  /** The `change`th change of the disk. */
  | { readonly kind: 'cut'; readonly size: number; readonly change: number };

/** One file of a disk: what is on it for sure, and what was done since. */
export class DiskFile {
  /** The file that holds the durable content, until something was done to it. */
  readonly #base: string | null;
  #durable: Buffer | null;
  #pending: Pending[] = [];
  #size: number;

  constructor(size: number, base: string | null) {
    this.#size = size;
    this.#base = base;
    this.#durable = base === null ? Buffer.alloc(0) : null;
  }

  /** Where its whole content stands, if nothing was ever done to it. */
  get source(): string | null {
    return this.#durable === null && this.#pending.length === 0 ? this.#base : null;
  }

  /** True if it grew. */
  write(position: number, bytes: Buffer): boolean {
    this.#pending.push({ kind: 'write', position, bytes });
    const end = position + bytes.length;
    if (end <= this.#size) return false;
    this.#size = end;
    return true;
  }

  /** True if it shrank. */
  cut(size: number, change: number): boolean {
    if (size === this.#size) return false;
    if (size > this.#size) throw new Error('not modelled: a file that is made longer without a write');
    this.#pending.push({ kind: 'cut', size, change });
    this.#size = size;
    return true;
  }

  sync(): void {
    if (this.#pending.length === 0) return;
    // In place: the engine's log is 16 MiB long and synced with every commit.
    let durable = this.#read();
    for (const item of this.#pending) {
      if (item.kind === 'cut') {
        durable = durable.subarray(0, item.size);
        continue;
      }
      const missing = item.position + item.bytes.length - durable.length;
      if (missing > 0) durable = Buffer.concat([durable, Buffer.alloc(missing)]);
      item.bytes.copy(durable, item.position);
    }
    this.#durable = durable;
    this.#pending = [];
  }

  current(): Buffer {
    const content = new Pages(this.#read());
    for (const item of this.#pending) content.apply(item);
    return content.latest();
  }

  /** Changes of the disk from the `keptChanges`th on are undone. */
  afterPowerLoss(keptChanges: number, odds: Odds, random: Random): Fate {
    const pages = new Pages(this.#read());
    for (const item of this.#pending) {
      if (item.kind === 'cut' && item.change >= keptChanges) break;
      pages.apply(item);
    }
    return pages.choose(odds, random);
  }

  #read(): Buffer {
    if (this.#durable === null) this.#durable = readFileSync(this.#base ?? '');
    return this.#durable;
  }
}

/** A file's content, with every state that each of its pages was in. */
class Pages {
  readonly #durable: Buffer;
  /** So much of the durable content no truncation has taken. */
  #durableBytes: number;
  readonly #states = new Map<number, Buffer[]>();
  #sizes: number[];

  constructor(durable: Buffer) {
    this.#durable = durable;
    this.#durableBytes = durable.length;
    this.#sizes = [durable.length];
  }

  apply(item: Pending): void {
    if (item.kind === 'cut') return this.#cut(item.size);
    const { position, bytes } = item;
    const end = position + bytes.length;
    for (let page = Math.floor(position / pageBytes); page * pageBytes < end; page++) {
      const states = this.#statesOf(page);
      const next = Buffer.from(states.at(-1) as Buffer);
      const from = Math.max(position, page * pageBytes);
      bytes.copy(next, from - page * pageBytes, from - position, (page + 1) * pageBytes - position);
      states.push(next);
    }
    if (end > this.#size) this.#sizes.push(end);
  }

  latest(): Buffer {
    return this.#assemble(this.#size, (states) => states.at(-1) as Buffer);
  }

  choose({ keep, tear }: Odds, random: Random): Fate {
    const seen = { kept: 0, lost: 0, torn: 0 };
    const size = random.pick([this.#size, this.#sizes[0] ?? 0, random.pick(this.#sizes)]);
    const content = this.#assemble(size, (states) => {
      if (states.length === 1 || random.chance(keep)) {
        seen.kept++;
        return states.at(-1) as Buffer;
      }
      const old = random.int(states.length - 1);
      if (!random.chance(tear)) {
        seen.lost++;
        return states[old] as Buffer;
      }
      seen.torn++;
      const next = states[old + 1 + random.int(states.length - 1 - old)] as Buffer;
      const torn = Buffer.from(states[old] as Buffer);
      next.copy(torn, 0, 0, sectorBytes * (1 + random.int(pageBytes / sectorBytes - 1)));
      return torn;
    });
    const { kept, lost, torn } = seen;
    if (lost + torn === 0 && size === this.#size) return { content, loss: null };
    return { content, loss: `${kept} pages kept, ${lost} lost, ${torn} torn, ${size} of ${this.#size} bytes long` };
  }

  get #size(): number {
    return this.#sizes.at(-1) ?? 0;
  }

  #statesOf(page: number): Buffer[] {
    let states = this.#states.get(page);
    if (states === undefined) {
      const durable = Buffer.alloc(pageBytes);
      const start = page * pageBytes;
      if (start < this.#durableBytes)
        this.#durable.copy(durable, 0, start, Math.min(start + pageBytes, this.#durableBytes));
      this.#states.set(page, (states = [durable]));
    }
    return states;
  }

  #cut(size: number): void {
    this.#durableBytes = Math.min(this.#durableBytes, size);
    for (const [page, states] of this.#states) {
      const rest = size - page * pageBytes;
      if (rest <= 0) this.#states.delete(page);
      else if (rest < pageBytes) for (const state of states) state.fill(0, rest);
    }
    this.#sizes = [size];
  }

  #assemble(size: number, pick: (states: readonly Buffer[]) => Buffer): Buffer {
    const content = Buffer.alloc(size);
    this.#durable.copy(content, 0, 0, Math.min(size, this.#durableBytes));
    for (const [page, states] of this.#states)
      if (page * pageBytes < size) pick(states).copy(content, page * pageBytes);
    return content;
  }
}
