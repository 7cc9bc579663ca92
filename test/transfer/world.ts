/** A database with something of everything that an export has to bring over, and what an export of it is compared by. */
import { randomInt } from 'node:crypto';
import type { Clock } from '../../src/clock.js';
import { systemClock } from '../../src/clock.js';
import type { Database } from '../../src/db/database.js';
import { schemaVersions } from '../../src/db/migrate.js';
import type { Place } from '../../src/event-log/append.js';
import { appendBatch } from '../../src/event-log/append.js';
import type { NewEvent } from '../../src/event-log/new-event.js';
import { dedupHash } from '../../src/ingest/envelope.js';
import { acknowledge } from '../../src/subscriptions/acknowledge.js';
import { Inboxes } from '../../src/inbox/inboxes.js';
import { eraseStep } from '../../src/subscriptions/erase.js';
import { receive } from '../../src/subscriptions/receive.js';
import { release } from '../../src/subscriptions/release.js';
import { Erasures } from '../../src/tenancy/erasures.js';
import type { HeldKey } from '../../src/tenancy/keys.js';
import { insertNewKey, Keys, newKey } from '../../src/tenancy/keys.js';
import { scopes } from '../../src/tenancy/scopes.js';
import { ChunkWriter } from '../../src/transfer/chunk-writer.js';
import { exportOrgs } from '../../src/transfer/export.js';
import { importOrgs } from '../../src/transfer/import.js';
import type { ImportResult } from '../../src/transfer/import.js';
import { asOwner, dayMs, ensurePartitions, newLog } from '../support/log.js';

/** Long past: no server makes partitions of these days. */
export const firstDayMs = Date.UTC(2024, 1, 27, 12);

/** Payloads that a reader and writer of JSON would change, or may not survive a transport of lines. */
export const oddPayloads = [
  '1e400',
  '-0.0',
  '12345678901234567890.10',
  '{"a":1,"a":2,"b":{"z":1,"a":2}}',
  '  {\n\t"spaced" :\r [ 1 , 2 ]\n} ',
  '"\\u0041\\/\\"\\\\ \\n \\ud83d\\ude00"',
  '"😀 𝄞 \u2028\u2029 \u007f é e\u0301 \ufeff"',
  '"{\\"line\\":\\"end\\"}\\n{\\"line\\":\\"checkpoint\\"}"',
  '[]',
];

export interface World {
  /** By number. */
  readonly orgs: readonly string[];
  /** The org that has everything. */
  readonly full: string;
  readonly suspended: string;
  readonly places: readonly Place[];
  /** A dedup id of `full` with its event. */
  readonly repeat: { readonly event: NewEvent; readonly place: Place };
}

export async function makeWorld(database: Database, bulkEvents = 2_500): Promise<World> {
  const at = { now: firstDayMs };
  const clock = { ...systemClock, now: () => at.now };
  const [full, suspended, empty, bulk] = [
    await newLog(database, at.now, 2),
    await newLog(database, at.now),
    await newLog(database, at.now),
    await newLog(database, at.now),
  ];
  const keys = new Keys(database, clock, () => {});
  const holder = async (org: string): Promise<HeldKey> => {
    const spec = { name: 'first', scopes, expiresAtMs: null };
    const { id } = await database.transaction({ role: 'app', org }, (tx) =>
      insertNewKey(tx, org, newKey(), spec, new Date(at.now)),
    );
    return { keyId: id, scopes: new Set(scopes) };
  };
  const held = await holder(full);
  for (const expiresAtMs of [null, at.now + 7 * dayMs]) {
    const key = await keys.create(full, { name: 'a "key" ключ', scopes, expiresAtMs }, held);
    await keys.rotate(full, key.id, 3600, held);
  }
  await keys.create(suspended, { name: 'k', scopes: scopes.slice(0, 1), expiresAtMs: null }, await holder(suspended));

  const places: Place[] = [];
  let repeat: World['repeat'] | undefined;
  // 28 and 29 February, then a gap of more days than one statement reads.
  for (const days of [0, 1, 2, 21]) {
    at.now = firstDayMs + days * dayMs;
    await ensurePartitions(database, clock);
    const batch = oddPayloads.map((payload, i) => oddEvent(full, payload, `${days} ${i} "é"`, at.now));
    const outcome = await appendBatch(database, batch, at.now);
    for (const event of outcome.events) if (event.kind === 'stored') places.push(event.place);
    // Repeats leave gaps.
    const again = await appendBatch(database, batch.slice(0, 3), at.now + 1);
    const [event] = batch;
    const [first] = again.events;
    if (event !== undefined && first?.kind === 'duplicate') repeat = { event, place: first.place };
    await consume(database, full, days, at.now + 10, places);
  }
  await makeInbox(database, full, clock, places);
  await forget(database, full, clock);
  const payload = JSON.stringify('x'.repeat(180));
  for (let sent = 0; sent < bulkEvents; sent += 500) {
    const many = Array.from({ length: 500 }, (_, i) =>
      newEvent(
        bulk,
        i % 100 === 0 ? JSON.stringify('y\\'.repeat(30_000)) : payload,
        i % 5 === 0 ? `${sent} ${i}` : null,
      ),
    );
    await appendBatch(database, many, at.now + sent);
  }
  await asOwner(
    database,
    `UPDATE orgs SET suspended = true, tier = 'pro', rate_per_minute = 77, burst = 9000000000, limit_mode = 'shadow' WHERE org = ${suspended};
     UPDATE orgs SET name = 'Zoë & "Söhne" \\ 😀', retention_days = 4000 WHERE org = ${full};
     UPDATE api_keys SET last_used_at = '2024-03-01T00:00:00.123Z' WHERE org = ${suspended};
     UPDATE events SET attributes = '{"big": 1e40, "a": [null, "\\u00e9"]}'
       WHERE org = ${full} AND position % 2 = 0 AND day < ${Math.floor(firstDayMs / dayMs) + 2}`,
  );
  if (repeat === undefined) throw new Error('no event was repeated');
  return {
    orgs: [full, suspended, empty, bulk].toSorted((a, b) => Number(a) - Number(b)),
    full,
    suspended,
    places,
    repeat,
  };
}

/** Leaves a dead letter, leases of several attempts, an acknowledgement above the cursor, and what is pending. */
async function consume(database: Database, org: string, day: number, nowMs: number, places: readonly Place[]) {
  const take = (eventsMax: number, leaseMs: number, atMs: number) =>
    receive(database, {
      org,
      subscription: 0,
      eventsMax,
      wantsPayload: false,
      nowMs: atMs,
      lease: `lse_${day}_${atMs - nowMs}_${randomInt(1e9)}`,
      leaseEndsAtMs: atMs + leaseMs,
    });
  await take(2, 1, nowMs);
  // Both attempts of these end without an acknowledgement.
  await take(1, 1, nowMs + 10);
  await take(1, 60_000_000_000_000, nowMs + 20);
  await take(3, 60_000_000_000_000, nowMs + 30);
  const last = places.at(-1);
  if (last !== undefined) await acknowledge(database, org, 0, [last]);
}

/** An inbox that begins in the middle of the log, wants another type from some position on, and has given an event back. */
async function makeInbox(database: Database, org: string, clock: Clock, places: readonly Place[]): Promise<void> {
  const inboxes = new Inboxes(database, clock);
  const address = places[3];
  if (address === undefined) throw new Error('no event to start at');
  const spec = { name: 'some', types: ['test.*'], start: { to: 'event', address }, maxAttempts: 3 } as const;
  const { subscription } = await inboxes.create(org, spec, 'key');
  await inboxes.change(org, 'some', { types: ['other', 'test.event'] }, 'key');
  const nowMs = clock.now() + 1_000;
  const lease = 'lse_some';
  const request = { org, subscription, eventsMax: 4, wantsPayload: false, nowMs, lease, leaseEndsAtMs: nowMs + 1_000 };
  await receive(database, request);
  const availableAtMs = nowMs + 60_000_000_000_000;
  const what = { addresses: [address] };
  await release(database, { org, subscription, what, nowMs, availableAtMs, waitingId: 'wait_some' });
}

/** Leaves a gap where an event was erased, of which only counts are left. */
async function forget(database: Database, org: string, clock: Clock): Promise<void> {
  await appendBatch(database, [{ ...newEvent(org, '"forgotten"'), subject: 'somebody' }], clock.now());
  const { id } = await new Erasures(database, clock, () => {}).request(org, 'somebody', 'key');
  while ((await eraseStep(database, org, id, 0, new Date(clock.now())))?.isDone === false);
}

function oddEvent(org: string, payload: string, dedupId: string, nowMs: number): NewEvent {
  return { ...newEvent(org, payload, dedupId), subject: 'sübject "1"', occurredAtMs: nowMs - 12_345 };
}

export function newEvent(org: string, payload: string, dedupId: string | null = null): NewEvent {
  const bytes = Buffer.from(payload);
  const type = 'test.event';
  const dedup = dedupId === null ? null : { id: dedupId, bodyHash: dedupHash(type, bytes) };
  return { org, type, subject: null, occurredAtMs: null, payload: bytes, dedup };
}

/** A whole export in memory. */
export async function exported(database: Database, gzip = false): Promise<Buffer> {
  const pieces: Buffer[] = [];
  const writer = new ChunkWriter(async (bytes) => void pieces.push(bytes), gzip);
  await exportOrgs(database, writer, (await schemaVersions(database)).newest, () => {});
  return Buffer.concat(pieces);
}

export async function imported(database: Database, bytes: Buffer): Promise<ImportResult> {
  const options = { schemaVersion: (await schemaVersions(database)).newest, nowMs: Date.now, onProgress: () => {} };
  return importOrgs(database, inPieces(bytes), options);
}

/** Pieces that fall into the middle of lines. */
export async function* inPieces(bytes: Buffer, pieceBytes = 65_521): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}

/** An export with the epoch of each head lowered by `raised`, and without the checksums, which follow from it. */
export function comparable(bytes: Buffer, raised = 0): string[] {
  return bytes
    .toString()
    .split('\n')
    .map((line) => {
      if (line.startsWith('{"line":"head"')) {
        return line.replace(/"epoch":(\d+)/, (_, epoch: string) => `"epoch":${Number(epoch) - raised}`);
      }
      return /^\{"line":"(checkpoint|end)"/.test(line) ? line.replace(/"sha256":"[0-9a-f]{64}"/, '') : line;
    });
}
