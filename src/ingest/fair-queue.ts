import type { QueueRoom } from './queue-room.js';

/** What waits for the next batch. */
export interface Waiting {
  readonly org: string;
  /** What it costs in memory, counted against the queue's bound. */
  readonly bytes: number;
  /** What it costs in time, counted against its org's turn, in any unit: a whole turn is `turnCost`. */
  readonly cost: number;
  readonly enqueuedAtMs: number;
}

interface OrgQueue<T> {
  readonly items: T[];
  /** Index of the first item still waiting: shifting an array is linear. */
  head: number;
  /** What this org may still take in its turn (deficit round robin). */
  credit: number;
  bytes: number;
  cost: number;
}

/** What one org may take in its turn. */
export const turnCost = 256 * 1024;

/**
 * The last eighth of the room is for orgs that hold next to nothing: floods fill the rest, and never take the room that another org's single
 * event needs.
 */
const floodShareMax = 7 / 8;
const littleShareMax = 1 / 256;

/**
 * First in, first out within an org; between orgs, turns of equal cost (deficit round robin, Shreedhar and Varghese 1995), so that one
 * org's flood delays another's single event by at most one turn of each. Bounded in bytes over all orgs, and over all
 * queues that share its room.
 */
export class FairQueue<T extends Waiting> {
  readonly #queues = new Map<string, OrgQueue<T>>();
  readonly #room: QueueRoom;
  #bytes = 0;
  #items = 0;

  constructor(room: QueueRoom) {
    this.#room = room;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get size(): number {
    return this.#items;
  }

  /** False if there is no room: the caller refuses the event. */
  add(item: T): boolean {
    const { bytes: taken, bytesMax } = this.#room;
    if (taken + item.bytes > bytesMax) return false;
    const holdsLittle = (this.#queues.get(item.org)?.bytes ?? 0) < littleShareMax * bytesMax;
    if (!holdsLittle && taken + item.bytes > floodShareMax * bytesMax) return false;
    this.#room.came(item.org, item.enqueuedAtMs);
    this.#push(item);
    return true;
  }

  has(org: string): boolean {
    return this.#queues.has(org);
  }

  /** Moves all that waits of the orgs that `moves` names to the end of `other`, which has the same room. */
  moveTo(other: FairQueue<T>, moves: (org: string) => boolean): void {
    for (const [org, queue] of this.#queues) {
      if (!moves(org)) continue;
      for (let item = queue.items[queue.head]; item !== undefined; item = queue.items[queue.head]) {
        this.#removeHead(org, queue, item);
        other.#push(item);
      }
    }
  }

  #push(item: T): void {
    const queue = this.#queues.get(item.org);
    if (queue === undefined) {
      const { bytes, cost } = item;
      this.#queues.set(item.org, { items: [item], head: 0, credit: 0, bytes, cost });
    } else {
      queue.items.push(item);
      queue.bytes += item.bytes;
      queue.cost += item.cost;
    }
    this.#bytes += item.bytes;
    this.#room.add(item.bytes);
    this.#items++;
  }

  /** How many turns it takes until all that waits of this org has left. */
  turnsOf(org: string): number {
    return (this.#queues.get(org)?.cost ?? 0) / turnCost;
  }

  /** What leaves, at most, before an item of this org that comes now: turns are equal, so it is as much of every other org as of its own. */
  ahead(org: string): { readonly items: number; readonly bytes: number } {
    const queue = this.#queues.get(org);
    if (queue === undefined) return { items: 0, bytes: 0 };
    const orgs = this.#queues.size;
    return {
      items: Math.min(this.#items, (queue.items.length - queue.head) * orgs),
      bytes: Math.min(this.#bytes, queue.bytes * orgs),
    };
  }

  /**
   * The next batch: at most `itemsMax` items and, but for a single larger one, `bytesMax` bytes, and of each org no more than
   * in `turnsMax` turns. Orgs left waiting come first next time.
   */
  take(itemsMax: number, bytesMax: number, turnsMax = Infinity): T[] {
    const batch: T[] = [];
    let bytes = 0;
    let turns = turnsMax * this.#queues.size;
    while (this.#items > 0) {
      for (const [org, queue] of this.#queues) {
        // What costs more than a turn has several.
        if (turns-- <= 0 && batch.length > 0) return batch;
        queue.credit += turnCost;
        for (let item = queue.items[queue.head]; item !== undefined; item = queue.items[queue.head]) {
          if (batch.length === itemsMax || (batch.length > 0 && bytes + item.bytes > bytesMax)) {
            // The turn goes on with the next batch, on what is left of its credit: paid anew each time, it would never end.
            queue.credit -= turnCost;
            return batch;
          }
          if (item.cost > queue.credit) break;
          queue.credit -= item.cost;
          bytes += item.bytes;
          batch.push(item);
          this.#removeHead(org, queue, item);
        }
        // To the back of the line, unless it is empty and gone.
        if (this.#queues.delete(org) && queue.head < queue.items.length) this.#queues.set(org, queue);
      }
    }
    return batch;
  }

  /** Removes and returns everything that has waited since before `enqueuedBeforeMs`. */
  takeOlder(enqueuedBeforeMs: number): T[] {
    const expired: T[] = [];
    for (const [org, queue] of this.#queues) {
      for (let item = queue.items[queue.head]; item !== undefined; item = queue.items[queue.head]) {
        if (item.enqueuedAtMs >= enqueuedBeforeMs) break;
        expired.push(item);
        this.#removeHead(org, queue, item);
      }
    }
    return expired;
  }

  #removeHead(org: string, queue: OrgQueue<T>, item: T): void {
    queue.head++;
    queue.bytes -= item.bytes;
    queue.cost -= item.cost;
    this.#bytes -= item.bytes;
    this.#room.add(-item.bytes);
    this.#items--;
    if (queue.head === queue.items.length) {
      this.#queues.delete(org);
    } else if (queue.head >= 1024 && queue.head * 2 > queue.items.length) {
      queue.items.splice(0, queue.head);
      queue.head = 0;
    }
  }
}
