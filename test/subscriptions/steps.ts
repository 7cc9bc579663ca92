import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Database } from '../../src/db/database.js';
import { acknowledge, acknowledgeLease } from '../../src/subscriptions/acknowledge.js';
import type { AcknowledgedAddress } from '../../src/subscriptions/acknowledge.js';
import { receive } from '../../src/subscriptions/receive.js';
import { append, dayMs } from '../support/log.js';
import { checkListing, checkRows, checkStats } from './checks.js';
import type { Listing } from './checks.js';
import type { Model } from './model.js';

export interface Real {
  readonly database: Database;
  readonly org: string;
  /** Partitions exist up to this day. */
  readonly lastDay: number;
  /** Of the last look: it must never decrease. */
  cursor: number;
}

type Run = (model: Model, real: Real) => Promise<void>;

/** One thing that happens, after which the real subscription must be in the state of the model. */
class Step implements fc.AsyncCommand<Model, Real> {
  constructor(
    private readonly what: string,
    private readonly happen: Run,
    private readonly listing: Listing,
  ) {}

  check(): boolean {
    return true;
  }

  async run(model: Model, real: Real): Promise<void> {
    await this.happen(model, real);
    await checkRows(model, real);
    await checkListing(model, real, this.listing);
    await checkStats(model, real);
  }

  toString(): string {
    return this.what;
  }
}

const typeNames = ['a.one', 'a.two', 'b'];

/** Some events carry a dedup id that is taken already: then their position stays a gap. */
const appended = fc
  .array(fc.record({ type: fc.constantFrom(...typeNames), dedup: fc.option(fc.integer({ min: 1, max: 6 })) }), {
    minLength: 1,
    maxLength: 12,
  })
  .map((events): [string, Run] => [
    `append ${events.map(({ type, dedup }) => (dedup === null ? type : `${type}#${dedup}`)).join(' ')}`,
    async (model, real) => {
      const given = events.map(({ type, dedup }) => ({ type, ...(dedup !== null && { dedupId: String(dedup) }) }));
      const places = await append(real.database, real.org, given, model.nowMs);
      for (const [i, place] of places.entries()) {
        const type = events[i]?.type ?? '';
        if (place === null) continue;
        model.events.push({ position: place.position, day: place.day, type, attempts: 0, lease: null, settled: 'no' });
      }
    },
  ]);

const received = fc
  .record({ eventsMax: fc.integer({ min: 1, max: 12 }), leaseSeconds: fc.integer({ min: 1, max: 30 }) })
  .map(({ eventsMax, leaseSeconds }): [string, Run] => [
    `receive ${eventsMax} for ${leaseSeconds} s`,
    async (model, real) => {
      const lease = `lse_${String(model.leases.length).padStart(6, '0')}`;
      const leaseEndsAtMs = model.nowMs + leaseSeconds * 1000;
      const { org, database } = real;
      const request = { org, subscription: 0, eventsMax, wantsPayload: true, nowMs: model.nowMs, lease, leaseEndsAtMs };
      const found = await receive(database, request);
      const expected = model.receive(eventsMax, lease, leaseEndsAtMs);
      assert.deepEqual(
        found?.events.map((event) => Number(event.position)),
        expected.events.map((event) => event.position),
      );
      if (expected.events.length > 0) assert.equal(found?.attempt, expected.attempt);
    },
  ]);

/** What an id can name: an event of the log, or what only looks like one. */
const addressKinds = ['event', 'event', 'event', 'event', 'gap', 'above', 'wrong epoch', 'wrong day'] as const;
type AddressKind = (typeof addressKinds)[number];

const acknowledged = fc
  .array(fc.record({ kind: fc.constantFrom(...addressKinds), at: fc.nat({ max: 999 }) }), {
    minLength: 1,
    maxLength: 10,
  })
  .map((picks): [string, Run] => [
    `ack ${picks.map(({ kind, at }) => `${kind} ${at}`).join(', ')}`,
    async (model, real) => {
      const addresses = picks.map(({ kind, at }) => addressOf(model, kind, at));
      const results = await acknowledge(real.database, real.org, 0, addresses);
      const expected = addresses.map((address) => {
        const event = model.events.find(({ position }) => position === address.position);
        const exists = event !== undefined && address.epoch === 1 && address.day === event.day;
        return exists ? model.acknowledge(event) : 'unknown';
      });
      assert.deepEqual(results, expected);
    },
  ]);

function addressOf(model: Model, kind: AddressKind, at: number): AcknowledgedAddress {
  const day = Math.floor(model.nowMs / dayMs);
  const head = model.events.at(-1)?.position ?? 0;
  const event = model.events[at % Math.max(1, model.events.length)];
  if (kind === 'above' || event === undefined) return { epoch: 1, position: head + 1 + at + gapsAtEndMax, day };
  const { position } = event;
  if (kind === 'wrong epoch') return { epoch: 2, position, day: event.day };
  if (kind === 'wrong day') return { epoch: 1, position, day: event.day + 1 };
  if (kind === 'event') return { epoch: 1, position, day: event.day };
  const taken = new Set(model.events.map((other) => other.position));
  const gaps = Array.from({ length: head }, (_, i) => i + 1).filter((candidate) => !taken.has(candidate));
  return { epoch: 1, position: gaps[at % Math.max(1, gaps.length)] ?? 0, day: event.day };
}

/** Above the last stored event there may be gaps, which no id names; so many positions further lies nothing at all. */
const gapsAtEndMax = 1_000;

const leaseAcknowledged = fc.nat({ max: 99 }).map((at): [string, Run] => [
  `ack lease ${at}`,
  async (model, real) => {
    const lease = model.leases[at % Math.max(1, model.leases.length)];
    const count = await acknowledgeLease(real.database, real.org, 0, lease?.id ?? 'lse_never');
    assert.equal(count, lease === undefined ? 0 : model.acknowledgeLease(lease));
  },
]);

const timePassed = fc
  .oneof(
    { weight: 5, arbitrary: fc.integer({ min: 1, max: 40 }).map((seconds) => seconds * 1000) },
    { weight: 1, arbitrary: fc.constant(dayMs) },
  )
  .map((ms): [string, Run] => [
    `${ms / 1000} s pass`,
    (model, real) => {
      if (Math.floor((model.nowMs + ms) / dayMs) <= real.lastDay) model.nowMs += ms;
      return Promise.resolve();
    },
  ]);

const listing: fc.Arbitrary<Listing> = fc.record({
  status: fc.constantFrom(undefined, 'pending', 'leased', 'dead', 'delivered'),
  pattern: fc.constantFrom('*', 'a.*', 'b'),
  limit: fc.constantFrom(2, 5, 50),
});

const step = fc
  .tuple(
    fc.oneof(
      { weight: 3, arbitrary: appended },
      { weight: 6, arbitrary: received },
      { weight: 3, arbitrary: acknowledged },
      { weight: 2, arbitrary: leaseAcknowledged },
      { weight: 3, arbitrary: timePassed },
    ),
    listing,
  )
  .map(([[what, run], look]): fc.AsyncCommand<Model, Real> => new Step(what, run, look));

export type Steps = Iterable<fc.AsyncCommand<Model, Real>>;

export function stepsUpTo(count: number): fc.Arbitrary<Steps> {
  return fc.commands([step], { maxCommands: count, size: 'max' });
}
