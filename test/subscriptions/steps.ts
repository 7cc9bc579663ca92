import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Database } from '../../src/db/database.js';
import { acknowledge, acknowledgeLease } from '../../src/subscriptions/acknowledge.js';
import type { AcknowledgedAddress } from '../../src/subscriptions/acknowledge.js';
import type { Inboxes } from '../../src/inbox/inboxes.js';
import { deleteEventsBelow } from '../../src/db/sql/retention.js';
import { systemClock } from '../../src/clock.js';
import { Erasures } from '../../src/tenancy/erasures.js';
import { eraseStep } from '../../src/subscriptions/erase.js';
import { expireBefore } from '../../src/subscriptions/expire.js';
import { receive } from '../../src/subscriptions/receive.js';
import { redrive } from '../../src/subscriptions/redrive.js';
import { extend, release } from '../../src/subscriptions/release.js';
import { seek } from '../../src/subscriptions/seek.js';
import { append, dayMs } from '../support/log.js';
import { checkAccount, checkListing, checkRows, checkStats } from './checks.js';
import type { Listing } from './checks.js';
import type { Model, ModelEvent } from './model.js';
import { wantsAll } from './model.js';

export interface Real {
  readonly database: Database;
  readonly org: string;
  /** Partitions exist from this day on. */
  readonly firstDay: number;
  /** And up to this one. */
  readonly lastDay: number;
  inboxes: Inboxes;
  /** Ends whatever the program keeps in memory, and begins anew on what is stored. */
  restart(): Promise<Inboxes>;
  /** Of the last look: it must never decrease but by a seek. */
  cursor: number;
  sought: boolean;
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
    await checkAccount(model, real);
  }

  toString(): string {
    return this.what;
  }
}

const typeNames = ['a.one', 'a.two', 'b'];
const subjects = ['ann', 'bob', 'cem'];

/** Some events carry a dedup id that is taken already: then their position stays a gap. */
const appended = fc
  .array(
    fc.record({
      type: fc.constantFrom(...typeNames),
      subject: fc.option(fc.constantFrom(...subjects)),
      dedup: fc.option(fc.integer({ min: 1, max: 6 })),
    }),
    { minLength: 1, maxLength: 12 },
  )
  .map((events): [string, Run] => [
    `append ${events.map(({ type, subject, dedup }) => `${type}${subject === null ? '' : `@${subject}`}${dedup === null ? '' : `#${dedup}`}`).join(' ')}`,
    async (model, real) => {
      const given = events.map(({ type, subject, dedup }) => ({
        type,
        ...(subject !== null && { subject }),
        ...(dedup !== null && { dedupId: String(dedup) }),
      }));
      const places = await append(real.database, real.org, given, model.nowMs);
      for (const [i, place] of places.entries()) {
        const { type = '', subject = null } = events[i] ?? {};
        if (place === null) continue;
        const settled = model.wants(type) ? 'no' : 'filtered';
        const { receivedAtMs } = place;
        model.lastPosition = place.position;
        const { version } = model;
        model.events.push({
          epoch: place.epoch,
          position: place.position,
          day: place.day,
          receivedAtMs,
          version,
          type,
          subject,
          attempts: 0,
          lease: null,
          settled,
        });
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
      let found = await receive(database, request);
      // What a filter passes over may take several looks, each from where the one before ended.
      for (let look = 1; found?.moreDue === true && found.events.length === 0 && look < 20; look++) {
        found = await receive(database, request);
      }
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
        const exists = event !== undefined && address.epoch === event.epoch && address.day === event.day;
        return exists ? model.acknowledge(event) : 'unknown';
      });
      assert.deepEqual(results, expected);
    },
  ]);

function addressOf(model: Model, kind: AddressKind, at: number): AcknowledgedAddress {
  const day = Math.floor(model.nowMs / dayMs);
  const head = model.lastPosition;
  const event = model.events[at % Math.max(1, model.events.length)];
  if (kind === 'above' || event === undefined) return { epoch: 1, position: head + 1 + at + gapsAtEndMax, day };
  const { epoch, position } = event;
  if (kind === 'wrong epoch') return { epoch: epoch + 1, position, day: event.day };
  if (kind === 'wrong day') return { epoch, position, day: event.day + 1 };
  if (kind === 'event') return { epoch, position, day: event.day };
  const taken = new Set(model.events.map((other) => other.position));
  // A gap may be a thousand million positions wide: its ends will do.
  const beside = model.events.flatMap((other) => [other.position - 1, other.position + 1]);
  const gaps = beside.filter((candidate) => candidate > 0 && candidate <= head && !taken.has(candidate));
  return { epoch, position: gaps[at % Math.max(1, gaps.length)] ?? 0, day: event.day };
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

/** Events of the log, any of them. */
const picked = fc.array(fc.nat({ max: 999 }), { minLength: 1, maxLength: 8 });

function pick(model: Model, picks: readonly number[]): ModelEvent[] {
  const events = picks.map((at) => model.events[at % Math.max(1, model.events.length)]);
  return [...new Set(events.filter((event) => event !== undefined))];
}

const addressesOf = (events: readonly ModelEvent[]): AcknowledgedAddress[] =>
  events.map(({ epoch, position, day }) => ({ epoch, position, day }));

const delay = fc.constantFrom(0, 0, 3, 20);
let waits = 0;
const newWaitingId = (): string => `wait_${String(++waits).padStart(6, '0')}`;

const released = fc.tuple(picked, delay).map(([picks, seconds]): [string, Run] => [
  `nack ${picks.join(', ')} for ${seconds} s`,
  async (model, real) => {
    const events = pick(model, picks);
    const waitingId = newWaitingId();
    const availableAtMs = model.nowMs + seconds * 1000;
    const what = { addresses: addressesOf(events) };
    const request = { org: real.org, subscription: 0, what, nowMs: model.nowMs, availableAtMs, waitingId };
    const expected = model.release(events, waitingId, availableAtMs);
    assert.equal(await release(real.database, request), expected);
  },
]);

const leaseReleased = fc.tuple(fc.nat({ max: 99 }), delay).map(([at, seconds]): [string, Run] => [
  `nack lease ${at} for ${seconds} s`,
  async (model, real) => {
    const lease = model.leases[at % Math.max(1, model.leases.length)];
    const waitingId = newWaitingId();
    const availableAtMs = model.nowMs + seconds * 1000;
    const what = { lease: lease?.id ?? 'lse_never' };
    const request = { org: real.org, subscription: 0, what, nowMs: model.nowMs, availableAtMs, waitingId };
    const expected = lease === undefined ? 0 : model.release(model.heldBy(lease), waitingId, availableAtMs);
    assert.equal(await release(real.database, request), expected);
  },
]);

const extended = fc.tuple(fc.nat({ max: 99 }), fc.integer({ min: 1, max: 30 })).map(([at, seconds]): [string, Run] => [
  `extend lease ${at} to ${seconds} s`,
  async (model, real) => {
    const lease = model.leases[at % Math.max(1, model.leases.length)];
    const endsAtMs = model.nowMs + seconds * 1000;
    const request = { org: real.org, subscription: 0, lease: lease?.id ?? 'lse_never', nowMs: model.nowMs, endsAtMs };
    assert.equal(await extend(real.database, request), lease !== undefined && model.extend(lease, endsAtMs));
  },
]);

const sought = fc
  .oneof(
    fc.constantFrom('beginning', 'now', 'time').map((to) => ({ to, at: 0 })),
    fc.record({ to: fc.constantFrom('event', 'time'), at: fc.nat({ max: 999 }) }),
  )
  .map(({ to, at }): [string, Run] => [
    `seek to ${to} ${at}`,
    async (model, real) => {
      const [event] = pick(model, [at]);
      const last = model.events.at(-1)?.position ?? 0;
      real.sought = true;
      if (to === 'beginning' || to === 'now') {
        assert.equal(await seek(real.database, real.org, 0, { to }), true);
        return model.seek(to === 'now' ? last + 1 : 1);
      }
      if (event === undefined) return;
      if (to === 'event') {
        const [address] = addressesOf([event]) as [AcknowledgedAddress];
        assert.equal(await seek(real.database, real.org, 0, { to, address }), true);
        return model.seek(event.position);
      }
      // A moment before, at, or after the time of an event's batch.
      const atMs = event.receivedAtMs + (at % 3) - 1;
      assert.equal(await seek(real.database, real.org, 0, { to: 'time', atMs }), true);
      model.seek(model.events.find(({ receivedAtMs }) => receivedAtMs >= atMs)?.position ?? last + 1);
    },
  ]);

const redriven = fc.option(picked, { nil: 'all' as const }).map((picks): [string, Run] => [
  `redrive ${String(picks)}`,
  async (model, real) => {
    const events = picks === 'all' ? model.events : pick(model, picks);
    const what = picks === 'all' ? picks : { addresses: addressesOf(events) };
    const waitingId = newWaitingId();
    const request = { org: real.org, subscription: 0, what, nowMs: model.nowMs, waitingId };
    const expected = model.redrive(events, waitingId);
    assert.equal(await redrive(real.database, request), expected);
  },
]);

const filters: Readonly<Record<string, (type: string) => boolean>> = {
  '*': wantsAll,
  'a.*': (type) => type.startsWith('a.'),
  b: (type) => type === 'b',
  none: () => false,
};

const filterChanged = fc.constantFrom(...Object.keys(filters)).map((pattern): [string, Run] => [
  `want ${pattern}`,
  async (model, real) => {
    await real.inboxes.change(real.org, 'default', { types: [pattern] }, 'key');
    const wants = filters[pattern] ?? model.wants;
    if (wants !== model.wants) model.version++;
    model.wants = wants;
  },
]);

/** Retention goes on by days; what it leaves below the floor is deleted later, or not yet. */
const expired = fc.tuple(fc.nat({ max: 3 }), fc.boolean()).map(([daysKept, deletes]): [string, Run] => [
  `the last ${daysKept} days are kept${deletes ? ', and no others' : ''}`,
  async (model, real) => {
    const { database, org } = real;
    const day = Math.floor(model.nowMs / dayMs) - daysKept;
    while (!(await expireBefore(database, org, day)));
    model.expire(day);
    if (!deletes) return;
    const first = model.events[0]?.position ?? model.lastPosition + 1;
    for (let old = real.firstDay; old < day; old++) await deleteEventsBelow(database, org, old, String(first), 10_000);
  },
]);

/** All that is stored of somebody by now, in as many steps as it takes. */
const erased = fc
  .record({ subject: fc.constantFrom(...subjects), scannedMax: fc.integer({ min: 1, max: 40 }) })
  .map(({ subject, scannedMax }): [string, Run] => [
    `erase ${subject}, ${scannedMax} events a step`,
    async (model, real) => {
      const { database, org, firstDay } = real;
      const erasures = new Erasures(database, { ...systemClock, now: () => model.nowMs }, () => {});
      const { id } = await erasures.request(org, subject, 'key');
      const limits = { scannedMax, eventsMax: 5 };
      for (let isDone = false; !isDone;) {
        const step = await eraseStep(database, org, id, firstDay - 1, new Date(model.nowMs), limits);
        isDone = step?.isDone ?? true;
      }
      model.erase(subject);
    },
  ]);

const restarted = fc.constant<[string, Run]>([
  'a restart',
  async (_, real) => {
    real.inboxes = await real.restart();
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
      { weight: 2, arbitrary: released },
      { weight: 1, arbitrary: leaseReleased },
      { weight: 1, arbitrary: extended },
      { weight: 1, arbitrary: sought },
      { weight: 1, arbitrary: redriven },
      { weight: 1, arbitrary: filterChanged },
      { weight: 1, arbitrary: expired },
      { weight: 1, arbitrary: erased },
      { weight: 1, arbitrary: restarted },
    ),
    listing,
  )
  .map(([[what, run], look]): fc.AsyncCommand<Model, Real> => new Step(what, run, look));

export type Steps = Iterable<fc.AsyncCommand<Model, Real>>;

export function stepsUpTo(count: number): fc.Arbitrary<Steps> {
  return fc.commands([step], { maxCommands: count, size: 'max' });
}
