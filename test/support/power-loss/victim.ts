import { appendFileSync } from 'node:fs';
import { systemClock } from '../../../src/clock.js';
import { openEmbedded } from '../../../src/db/embedded.js';
import { createPartition, partitionName } from '../../../src/db/sql/partitions.js';
import { encodeEventId } from '../../../src/event-log/event-id.js';
import { storeBatch } from '../../../src/ingest/store-batch.js';
import { acknowledge } from '../../../src/subscriptions/acknowledge.js';
import { receive } from '../../../src/subscriptions/receive.js';
import { unwatched } from '../event-log.js';
import { asOwner } from '../log.js';
import { toNewEvent, tracedEvent } from './events.js';
import { Random } from './random.js';
import type { Answered, Note } from './trace.js';
import { encodeRecord } from './trace.js';

/**
 * A process that opens a data folder, does random work on it through the product's own code, notes in the trace what the product told it,
 * and ends as a killed one does. Its arguments are a `VictimOrder` as JSON.
 */
export interface VictimOrder {
  readonly dataDir: string;
  readonly trace: string;
  readonly seed: number;
  readonly steps: number;
  readonly orgs: readonly string[];
  /** Instead of random work: this work, first once to its end; then it sends how many ms that took, and does it again, and waits to be killed. */
  readonly drill?: DrillName;
  /** The first event's number; every further event has the next. */
  readonly firstEvent: number;
}

export type DrillName = 'checkpoint' | 'vacuum' | 'partition creation';

const order = JSON.parse(process.argv[2] ?? '') as VictimOrder;
const random = new Random(order.seed);
const today = Math.floor(Date.now() / 86_400_000);
const drills: Readonly<Record<DrillName, () => Promise<unknown>>> = {
  checkpoint: () => database.maintain('CHECKPOINT'),
  vacuum: () => database.maintain(random.chance(0.3) ? 'VACUUM (FREEZE)' : 'VACUUM'),
  'partition creation': () => createPartition(database, nextDay++),
};
let nextEvent = order.firstEvent;
let nextDay = today + 400 + random.int(100_000);

const note = (said: Note): void => appendFileSync(order.trace, encodeRecord(said));
const database = await openEmbedded({
  dataDir: order.dataDir,
  clock: systemClock,
  onLog: () => {},
  // A machine under load is not what is tried here.
  statementTimeoutMs: 60_000,
  onLockLost: (reason) => {
    throw new Error(reason);
  },
});
note({ op: 'step', name: 'opened' });
for (let step = 0; step < order.steps; step++) await takeStep();
if (order.drill !== undefined) await drill(order.drill);
process.kill(process.pid, 'SIGKILL');

async function takeStep(): Promise<void> {
  const [name, work] = pickStep();
  note({ op: 'step', name });
  // A batch waits behind the other work in the engine's queue, as it does in a node.
  await Promise.all([work(), ...(random.chance(0.3) ? [sendBatch()] : [])]);
}

function pickStep(): readonly [name: string, work: () => Promise<unknown>] {
  const dice = random.int(100);
  if (dice < 60) return ['batch', sendBatch];
  if (dice < 78) return ['consume', consume];
  if (dice < 84) return ['checkpoint', drills.checkpoint];
  if (dice < 89) return ['vacuum', drills.vacuum];
  if (dice < 94) return ['partition creation', drills['partition creation']];
  if (dice < 97) return ['partition removal', dropPartition];
  return ['new log segment', () => database.maintain('SELECT pg_switch_wal()')];
}

async function drill(name: DrillName): Promise<void> {
  await sendBatch();
  const startedAtMs = performance.now();
  await drills[name]();
  const tookMs = performance.now() - startedAtMs;
  for (let i = 0; i < 5; i++) await Promise.all([sendBatch(), consume()]);
  process.send?.(tookMs);
  await Promise.all([drills[name](), sendBatch()]);
  // Whoever is to kill this process may be late; meanwhile there is work.
  for (;;) await sendBatch();
}

async function sendBatch(): Promise<void> {
  const size = random.chance(0.5) ? 1 + random.int(3) : 1 + random.int(60);
  const numbers = Array.from({ length: size }, () => nextEvent++);
  // Now and then one comes again, as from a client that has got no answer.
  if (numbers[0] !== undefined && numbers[0] > order.firstEvent + 10) numbers.push(numbers[0] - 1 - random.int(10));
  note({ op: 'sending', events: numbers });
  const batch = numbers.flatMap((number) => {
    const event = tracedEvent(number);
    // Without a dedup id a second sending would be a second event.
    const isRepeat = number < (numbers[0] ?? 0);
    return isRepeat && event.dedupId === null ? [] : [{ number, event: toNewEvent(orgOf(number), event) }];
  });
  const results = await storeBatch(
    {
      database,
      clock: systemClock,
      blockedHeads: unwatched,
      outcomeWaitMsMax: 0,
      onStored: () => {},
      onFailure: () => {},
    },
    batch.map(({ event }) => event),
  );
  const answered = batch.flatMap(({ number, event }, i): Answered[] => {
    const result = results[i];
    if (result === undefined) throw new Error(`event ${number} got no answer`);
    if ('refused' in result) {
      const isOpen = result.refused.code === 'outcome_unknown';
      return isOpen ? [] : [{ event: number, id: null, status: 0, receivedAt: '' }];
    }
    const { appended } = result;
    if (!('place' in appended)) throw new Error(`event ${number}: ${appended.kind}`);
    const { place } = appended;
    const status = appended.kind === 'stored' ? 201 : 200;
    const id = encodeEventId({ org: event.org, ...place });
    return [{ event: number, id, status, receivedAt: String(place.receivedAtMs) }];
  });
  note({ op: 'answered', events: answered });
}

async function consume(): Promise<void> {
  const org = random.pick(order.orgs);
  const nowMs = Date.now();
  const received = await receive(database, {
    org,
    subscription: 0,
    eventsMax: 1 + random.int(40),
    wantsPayload: true,
    nowMs,
    lease: `lease ${order.seed} ${random.int(2 ** 31)}`,
    // Some are over before they are acknowledged, and are handed out again.
    leaseEndsAtMs: nowMs + random.pick([1, 60_000]),
  });
  const addresses = (received?.events ?? []).map(({ epoch, position, day }) => ({
    epoch,
    position: Number(position),
    day,
  }));
  const done = addresses.filter(() => random.chance(0.8));
  if (done.length === 0) return;
  const results = await acknowledge(database, org, 0, done);
  const positions = done.flatMap(({ position }, i) => (results?.[i] === 'unknown' ? [] : [position]));
  note({ op: 'consumed', org, positions });
}

async function dropPartition(): Promise<void> {
  await createPartition(database, nextDay);
  const name = partitionName(nextDay++);
  await asOwner(database, `ALTER TABLE events DETACH PARTITION ${name}; DROP TABLE ${name}`);
}

function orgOf(number: number): string {
  return order.orgs[number % order.orgs.length] ?? '';
}
