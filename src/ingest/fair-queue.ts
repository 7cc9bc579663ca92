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
  readonly org: string;
  /** Those that have left are gone from it, lest they live as long as the queue has something in it. */
  readonly items: (T | undefined)[];
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
/** Orgs of which nothing waits and whose queue is kept for their next item, at most; then all of them are forgotten. */
const idleMax = 16_384;

/**
 * First in, first out within an org; between orgs, turns of equal cost (deficit round robin, Shreedhar and Varghese 1995), so that one
 * org's flood delays another's single event by at most one turn of each. Bounded in bytes over all orgs, and over all
 * queues that share its room.
 */
export class FairQueue<T extends Waiting> {
  /**
   * Also of orgs of which nothing waits: a table whose entries come and go with each item is made anew all the time, and what a dead table in the
   * old generation still names survives with it, requests and all.
   */
  #queues = new Map<string, OrgQueue<T>>();
  /** Those with something in them, in the order of their turns. */
  #line: OrgQueue<T>[] = [];
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

  /** Whose queue is remembered, also if nothing waits in it. */
  get orgs(): number {
    return this.#queues.size;
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
    return (this.#queues.get(org)?.items.length ?? 0) > 0;
  }

  /** Moves all that waits of the orgs that `moves` names to the end of `other`, which has the same room. */
  moveTo(other: FairQueue<T>, moves: (org: string) => boolean): void {
    for (const queue of this.#line) {
      if (!moves(queue.org)) continue;
      for (let item = queue.items[queue.head]; item !== undefined; item = queue.items[queue.head]) {
        this.#removeHead(queue, item);
        other.#push(item);
      }
    }
    this.#closeRanks();
  }

  #push(item: T): void {
    const queue = this.#queues.get(item.org) ?? this.#newQueue(item.org);
    if (queue.items.length === 0) this.#line.push(queue);
    queue.items.push(item);
    queue.bytes += item.bytes;
    queue.cost += item.cost;
    this.#bytes += item.bytes;
    this.#room.add(item.bytes);
    this.#items++;
  }

  #newQueue(org: string): OrgQueue<T> {
    if (this.#queues.size - this.#line.length >= idleMax) {
      this.#queues = new Map(this.#line.map((queue) => [queue.org, queue]));
    }
    const queue = { org, items: [], head: 0, credit: 0, bytes: 0, cost: 0 };
    this.#queues.set(org, queue);
    return queue;
  }

  /** How many turns it takes until all that waits of this org has left. */
  turnsOf(org: string): number {
    return (this.#queues.get(org)?.cost ?? 0) / turnCost;
  }

  /** What leaves, at most, before an item of this org that comes now: turns are equal, so it is as much of every other org as of its own. */
  ahead(org: string): { readonly items: number; readonly bytes: number } {
    const queue = this.#queues.get(org);
    if (queue === undefined) return { items: 0, bytes: 0 };
    const orgs = this.#line.length;
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
    let turnsLeft = turnsMax * this.#line.length;
    let at = 0;
    turns: for (let queue = this.#line[0]; queue !== undefined; queue = this.#line[++at]) {
      // What costs more than a turn has several.
      if (turnsLeft-- <= 0 && batch.length > 0) break;
      queue.credit += turnCost;
      for (let item = queue.items[queue.head]; item !== undefined; item = queue.items[queue.head]) {
        if (batch.length === itemsMax || (batch.length > 0 && bytes + item.bytes > bytesMax)) {
          // The turn goes on with the next batch, on what is left of its credit: paid anew each time, it would never end.
          queue.credit -= turnCost;
          break turns;
        }
        if (item.cost > queue.credit) break;
        queue.credit -= item.cost;
        bytes += item.bytes;
        batch.push(item);
        this.#removeHead(queue, item);
      }
      // To the back of the line, unless it is empty.
      if (queue.items.length > 0) this.#line.push(queue);
    }
    this.#line.splice(0, at);
    return batch;
  }

  /** Removes and returns everything that has waited since before `enqueuedBeforeMs`. */
  takeOlder(enqueuedBeforeMs: number): T[] {
    const expired: T[] = [];
    for (const queue of this.#line) {
      for (let item = queue.items[queue.head]; item !== undefined; item = queue.items[queue.head]) {
        if (item.enqueuedAtMs >= enqueuedBeforeMs) break;
        expired.push(item);
        this.#removeHead(queue, item);
      }
    }
    this.#closeRanks();
    return expired;
  }

  #closeRanks(): void {
    this.#line = this.#line.filter((queue) => queue.items.length > 0);
  }

  /** Whoever calls it takes an emptied queue out of the line. */
  #removeHead(queue: OrgQueue<T>, item: T): void {
    queue.items[queue.head++] = undefined;
    queue.bytes -= item.bytes;
    queue.cost -= item.cost;
    this.#bytes -= item.bytes;
    this.#room.add(-item.bytes);
    this.#items--;
    if (queue.head === queue.items.length) {
      // Not another list: the old one may lie in the old generation by now, and what is pushed to it would live there after it.
      queue.items.length = 0;
      queue.head = 0;
      queue.credit = 0;
    } else if (queue.head >= 1024 && queue.head * 2 > queue.items.length) {
      queue.items.splice(0, queue.head);
      queue.head = 0;
    }
  }
}
