import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Database } from '../../src/db/database.js';
import { migrate } from '../../src/db/migrate.js';
import { appendBatch } from '../../src/event-log/append.js';
import { encodeEventId } from '../../src/event-log/event-id.js';
import * as original from '../../src/transfer/parse-chunk.js';
import { importMutant } from '../support/mutant.js';
import { asOrg, ensurePartitions, openDatabase, openLog } from '../support/log.js';
import { systemClock } from '../../src/clock.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { EngineName, TestStorage } from '../support/storage.js';
import { comparable, exported, imported, makeWorld, newEvent, oddPayloads } from './world.js';
import type { World } from './world.js';

after(stopServers);

interface Source {
  readonly storage: TestStorage;
  readonly database: Database;
  readonly world: World;
  readonly bytes: Buffer;
}

for (const from of engineNames) {
  describe(`an export from ${from}`, () => {
    let source: Source | null = null;
    before(async () => {
      const storage = await createStorage(from);
      if (storage === null) return;
      const database = await openLog(storage);
      const world = await makeWorld(database);
      source = { storage, database, world, bytes: await exported(database) };
    });
    after(async () => {
      await source?.database.close();
      await source?.storage.remove();
    });

    for (const to of engineNames) {
      test(`imported into ${to} and exported again, has the same bytes but for the epoch of the heads`, async (t) => {
        if (source === null) return t.skip('no PostgreSQL on this machine');
        const target = await openEmpty(to);
        if (target === null) return t.skip('no PostgreSQL on this machine');
        t.after(target.remove);
        const { outcome, orgs } = await imported(target.database, source.bytes);
        assert.deepEqual([outcome, orgs], ['imported', 4]);
        const again = await exported(target.database);
        assert.deepEqual(comparable(again, 1), comparable(source.bytes));
        assert.notDeepEqual(comparable(again), comparable(source.bytes));
        await goesOn(target.database, source.world);
      });
    }

    test('has nothing of the moment in it: a second one is the same', async (t) => {
      if (source === null) return t.skip('no PostgreSQL on this machine');
      assert.ok((await exported(source.database)).equals(source.bytes));
    });

    test('holds every kind of line', (t) => {
      if (source === null) return t.skip('no PostgreSQL on this machine');
      const text = source.bytes.toString();
      for (const kind of ['key', 'lease', 'dead_letter', 'event', 'dedup', 'checkpoint']) {
        assert.ok(text.includes(`{"line":"${kind}",`), kind);
      }
      assert.match(text, /"ahead":"\{\[/);
      // What was erased is only counted.
      assert.match(text, /"erased":1,/);
      assert.doesNotMatch(text, /forgotten|somebody/);
      assert.match(text, /"attributes":"\{\\"a\\"/);
      for (const payload of oddPayloads) assert.ok(text.includes(`"payload":${JSON.stringify(payload)}}`), payload);
    });
  });
}

test('an import that left the epoch as it was would be noticed', async () => {
  const { parseChunk } = await importMutant<typeof original>(
    'transfer/parse-chunk.js',
    'return epoch + 1',
    'return epoch',
  );
  const head =
    '{"line":"head","epoch":3,"position":0,"day":1,"received_at":"2024-01-01T00:00:00.000Z","first_position":1,"first_day":1}';
  const org =
    '{"line":"org","org":"5","name":"n","tier":"pro","rate_per_minute":null,"burst":null,"limit_mode":"enforce","retention_days":1,"suspended":false,"created_at":"2024-01-01T00:00:00.000Z"}';
  const chunk = { number: 1, checksum: '', orgBefore: null, lines: [Buffer.from(org), Buffer.from(head)] };
  assert.equal(original.parseChunk(chunk).heads[0]?.['epoch'], 4);
  assert.equal(parseChunk(chunk).heads[0]?.['epoch'], 3);
});

test('a consumer of an export from before there was erasure has lost nothing to it', () => {
  const org =
    '{"line":"org","org":"5","name":"n","tier":"pro","rate_per_minute":null,"burst":null,"limit_mode":"enforce","retention_days":1,"suspended":false,"created_at":"2024-01-01T00:00:00.000Z"}';
  const subscription =
    '{"line":"subscription","subscription":0,"kind":"inbox","name":"default","max_attempts":10,"cursor":0,"cursor_day":1,"ahead":"{}","held":0,"dead":0,"expired":2,"skipped":"{}","filters":[],"created_at":"2024-01-01T00:00:00.000Z"}';
  const lines = [Buffer.from(org), Buffer.from(subscription)];
  const [row] = original.parseChunk({ number: 1, checksum: '', orgBefore: null, lines }).subscriptions;
  assert.deepEqual([row?.['expired'], row?.['erased']], [2, 0]);
});

/** What a client sees after the move. */
async function goesOn(database: Database, { full, suspended, places, repeat }: World): Promise<void> {
  const old = places.at(3);
  assert.ok(old !== undefined);
  // Found by the address that its old id spells.
  const found = await asOrg<{ payload: string }>(
    database,
    full,
    `SELECT payload FROM events WHERE org = ${full} AND day = ${old.day} AND position = ${old.position} AND epoch = ${old.epoch}`,
  );
  assert.deepEqual(found, [{ payload: oddPayloads[3] }]);

  await ensurePartitions(database, systemClock);
  const now = Date.now();
  const { events } = await appendBatch(database, [repeat.event, newEvent(full, '1')], now);
  assert.deepEqual(events[0], { kind: 'duplicate', place: repeat.place });
  const [, fresh] = events;
  assert.ok(fresh?.kind === 'stored');
  assert.ok(fresh.place.epoch > old.epoch, `${fresh.place.epoch} after ${old.epoch}`);
  assert.ok(fresh.place.position > Math.max(...places.map(({ position }) => position)));
  assert.ok(encodeEventId({ org: full, ...fresh.place }) > encodeEventId({ org: full, ...old }));

  const states = await database.query<{ org: string; suspended: boolean }>(
    { role: 'system' },
    { name: 'test_suspended', text: 'SELECT org, suspended FROM orgs WHERE suspended' },
  );
  assert.deepEqual(states.rows, [{ org: suspended, suspended: true }]);
}

async function openEmpty(engine: EngineName) {
  const storage = await createStorage(engine);
  if (storage === null) return null;
  const database = await openDatabase(storage);
  await migrate(database, () => {});
  const remove = async (): Promise<void> => {
    await database.close();
    await storage.remove();
  };
  return { database, remove };
}
