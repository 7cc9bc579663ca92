/** What several nodes write to the logs of the same orgs at once, and what readers beside them see of it. */
import { randomBytes } from 'node:crypto';
import { systemClock } from '../../src/clock.js';
import type { Database } from '../../src/db/database.js';
import { Problem } from '../../src/errors.js';
import { BatchOutcomeUnknown } from '../../src/event-log/append.js';
import { BlockedHeads } from '../../src/event-log/blocked-heads.js';
import type { LogPlace } from '../../src/event-log/list.js';
import type { NewEvent } from '../../src/event-log/new-event.js';
import { readTail } from '../../src/event-log/tail.js';
import type { StoredOrRefused } from '../../src/ingest/group-commit.js';
import { IngestLanes } from '../../src/ingest/ingest-lanes.js';
import { storeAtomic } from '../../src/ingest/store-atomic.js';
import { storeBatch } from '../../src/ingest/store-batch.js';
import type { StoreBatchOptions } from '../../src/ingest/store-batch.js';
import { acknowledgeLease } from '../../src/subscriptions/acknowledge.js';
import { receive } from '../../src/subscriptions/receive.js';
import { newEvent } from '../support/event-log.js';
import { dayMs } from '../support/log.js';
import type { Random } from '../support/power-loss/random.js';

const batchEventsMax = 60;
const storedType = 'test.event';

/** Every event that was acknowledged: by org, what each position holds. */
export class Written {
  /** A line for each acknowledgement that breaks the order. */
  readonly wrong: string[] = [];
  /** Of what failed, by SQLSTATE or kind. */
  readonly failures = new Map<string, number>();
  readonly #logs = new Map<string, Map<number, string>>();
  readonly #newest = new Map<string, number>();
  /** Payloads that may be stored or not. */
  readonly #open = new Set<string>();
  events = 0;

  newestOf(org: string): number {
    return this.#newest.get(org) ?? 0;
  }

  add(org: string, position: number, payload: string, newestBefore: number): void {
    const log = this.#logs.get(org) ?? new Map<number, string>();
    this.#logs.set(org, log);
    if (log.has(position)) this.wrong.push(`position ${position} of ${org} was given out twice`);
    // Whoever knows of an event and sends another finds it behind: the order of the log is the order of commits.
    if (position <= newestBefore)
      this.wrong.push(`${org}: ${position} was sent when ${newestBefore} was acknowledged already`);
    log.set(position, payload);
    this.#newest.set(org, Math.max(this.newestOf(org), position));
    this.events++;
  }

  addOpen(payload: string): void {
    this.#open.add(payload);
  }

  failed(error: unknown): void {
    const { sqlstate, kind } = (error ?? {}) as { sqlstate?: string; kind?: string };
    const name = sqlstate ?? kind ?? String(error);
    this.failures.set(name, (this.failures.get(name) ?? 0) + 1);
  }

  /** Where what is stored differs from what was acknowledged. `stored` is the log of `org` in its order. */
  differences(org: string, stored: readonly { readonly position: number; readonly payload: string }[]): string[] {
    const expected = new Map(this.#logs.get(org));
    const found: string[] = [];
    for (const { position, payload } of stored) {
      if (expected.get(position) === payload) expected.delete(position);
      else if (!this.#open.has(payload)) found.push(`${org}: ${position} holds ${payload}, which was not acknowledged`);
    }
    for (const [position, payload] of expected)
      found.push(`${org}: ${payload} is missing, acknowledged at ${position}`);
    return found;
  }
}

/** What one node stores with: as many lanes as its database has connections for them, and atomic batches beside them. */
export class Writers {
  readonly #written: Written;
  readonly #pickOrg: () => string;
  readonly #random: Random;
  readonly #storing: StoreBatchOptions;
  readonly #lanes: IngestLanes;
  #batches = 0;
  /** Of the lanes, at most. */
  batchesAtOnce = 0;
  atomicBatches = 0;

  constructor(database: Database, lanes: number, written: Written, pickOrg: () => string, random: Random) {
    const onFailure = (error: unknown): void => written.failed(error);
    this.#written = written;
    this.#pickOrg = pickOrg;
    this.#random = random;
    this.#storing = {
      database,
      clock: systemClock,
      blockedHeads: new BlockedHeads(database, systemClock, () => {}, onFailure),
      outcomeWaitMsMax: 8_000,
      onStored: () => {},
      onFailure,
    };
    this.#lanes = new IngestLanes(lanes, {
      clock: systemClock,
      // So that they are all at work.
      heldUpMs: 1,
      store: (batch, lane) => this.#store(batch, lane),
      batchEventsMax: () => batchEventsMax,
      batchBytesMax: 2 ** 20,
      queueBytesMax: 2 ** 26,
      queueAgeMsMax: 60_000,
    });
  }

  start(): Promise<void> {
    return this.#lanes.start();
  }

  stop(): Promise<void> {
    return this.#lanes.stop();
  }

  /** Sends some events of any orgs at once, each to its lane, and when all are answered the next ones, until `isDone`. */
  async writeEvents(isDone: () => boolean): Promise<void> {
    while (!isDone()) {
      const events = this.#newEvents(this.#pickOrg);
      await Promise.all(events.map((event) => this.#write([event], async () => [await this.#lanes.add(event)])));
    }
  }

  /** Stores one atomic batch after the other, each of one org, until `isDone`. */
  async writeAtomic(isDone: () => boolean): Promise<void> {
    while (!isDone()) {
      const org = this.#pickOrg();
      const batch = this.#newEvents(() => org);
      await this.#write(batch, async () => {
        const results = await storeAtomic(this.#storing, batch);
        if (results.every((result) => 'appended' in result)) this.atomicBatches++;
        return results;
      });
    }
  }

  #newEvents(pickOrg: () => string): NewEvent[] {
    const random = this.#random;
    return Array.from({ length: 1 + random.int(batchEventsMax) }, () => {
      const payload = `"${randomBytes(9).toString('base64url')}"`;
      // Few dedup ids, so that nodes want the same one at the same moment.
      const isShared = random.chance(0.1);
      return isShared
        ? newEvent(pickOrg(), '"shared"', `id ${random.int(50)}`, 'shared')
        : newEvent(pickOrg(), payload, random.chance(0.3) ? payload : null, storedType);
    });
  }

  async #store(batch: readonly NewEvent[], lane: number): Promise<readonly StoredOrRefused[]> {
    this.batchesAtOnce = Math.max(this.batchesAtOnce, ++this.#batches);
    try {
      return await storeBatch(this.#storing, batch, lane);
    } finally {
      this.#batches--;
    }
  }

  async #write(events: readonly NewEvent[], store: () => Promise<readonly StoredOrRefused[]>): Promise<void> {
    const written = this.#written;
    const newest = events.map(({ org }) => written.newestOf(org));
    const results = await store().catch((error: unknown) => {
      if (!(error instanceof Problem)) throw error;
      return events.map(() => ({ refused: error }));
    });
    for (const [i, result] of results.entries()) {
      const { org, payload } = events[i] as NewEvent;
      if ('refused' in result) {
        if (result.refused.cause instanceof BatchOutcomeUnknown) written.addOpen(payload.toString());
      } else if (result.appended.kind === 'stored') {
        written.add(org, result.appended.place.position, payload.toString(), newest[i] ?? 0);
      }
    }
  }
}

/** What was seen of each log, in the order in which it was seen. */
export type Seen = ReadonlyMap<string, number[]>;

/** Reads each log on from where it was, as an event stream does, again and again, and once more after `isDone`. */
export async function followLogs(
  database: Database,
  orgs: readonly string[],
  isDone: () => boolean,
): Promise<{ readonly seen: Seen; readonly looks: number }> {
  const seen = new Map<string, number[]>(orgs.map((org) => [org, []]));
  const begin: LogPlace = { position: 1, day: Math.floor(Date.now() / dayMs) - 1 };
  const places = new Map<string, LogPlace>(orgs.map((org) => [org, begin]));
  let looks = 0;
  for (let isLast = false; !isLast; looks++) {
    isLast = isDone();
    for (const org of orgs) {
      for (let isMore = true; isMore;) {
        const place = places.get(org) ?? begin;
        const request = { org, place, types: null, limit: 1_000, bytesMax: 2 ** 20, wantsPayload: false };
        const tail = await readTail(database, request);
        if (tail === null) throw new Error(`the org ${org} is gone`);
        seen.get(org)?.push(...tail.events.map(({ position }) => Number(position)));
        places.set(org, tail.place);
        isMore = tail.more;
      }
    }
  }
  return { seen, looks };
}

/** Receives from the inbox of each log, and acknowledges, again and again; after `isDone` until nothing comes any more. Adds to `seen`. */
export async function consumeLogs(
  database: Database,
  orgs: readonly string[],
  name: string,
  seen: Seen,
  isDone: () => boolean,
): Promise<void> {
  let leases = 0;
  for (let isLast = false; !isLast;) {
    isLast = isDone();
    for (const org of orgs) {
      for (let isMore = true; isMore;) {
        const lease = `lse_${name}_${leases++}`;
        const nowMs = Date.now();
        const request = { org, subscription: 0, eventsMax: 1_000, wantsPayload: false, nowMs, lease };
        const received = await receive(database, { ...request, leaseEndsAtMs: nowMs + 600_000 });
        const positions = received?.events.map(({ position }) => Number(position)) ?? [];
        if (positions.length > 0) await acknowledgeLease(database, org, 0, lease);
        seen.get(org)?.push(...positions);
        isMore = isLast && positions.length > 0;
      }
    }
  }
}
