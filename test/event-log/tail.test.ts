import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Database } from '../../src/db/database.js';
import type { LogPlace } from '../../src/event-log/list.js';
import { placeBehind, readTail } from '../../src/event-log/tail.js';
import { append, asOwner, newLog, openLog } from '../support/log.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';

const nowMs = Date.now();
const day = Math.floor(nowMs / 86_400_000);

function describeTail(storage: TestStorage): void {
  let database: Database;
  let org: string;
  before(async () => {
    database = await openLog(storage);
  });
  after(async () => {
    await database.close();
    await storage.remove();
  });

  const fill = async (count: number): Promise<void> => {
    await append(
      database,
      org,
      Array.from({ length: count }, () => ({})),
      nowMs,
    );
  };
  const behind = (position: number, epoch = 1): Promise<LogPlace | null> =>
    placeBehind(database, org, { org, epoch, position, day });

  async function positionsFrom(place: LogPlace | null): Promise<number[]> {
    assert.ok(place);
    const tail = await readTail(database, {
      org,
      place,
      types: null,
      limit: 100,
      bytesMax: 65_536,
      wantsPayload: false,
    });
    assert.ok(tail);
    assert.equal(tail.more, false);
    return tail.events.map(({ position }) => Number(position));
  }

  test('begins behind the newest event, or behind the one that is named', async () => {
    org = await newLog(database, nowMs);
    assert.deepEqual(await placeBehind(database, org, null), { position: 1, day });
    await fill(3);
    assert.deepEqual(await placeBehind(database, org, null), { position: 4, day });
    assert.deepEqual(await positionsFrom(await behind(1)), [2, 3]);
    assert.deepEqual(await positionsFrom(await behind(3)), []);
    assert.equal(await behind(4), null);
    assert.equal(await placeBehind(database, '1', null), null);
  });

  test('goes on with what is left, where retention has removed the event that is named and those after it', async () => {
    org = await newLog(database, nowMs);
    await fill(5);
    const floor = `UPDATE heads SET first_position = 4 WHERE org = ${org}`;
    await asOwner(database, `DELETE FROM events WHERE org = ${org} AND position < 4; ${floor}`);
    assert.deepEqual(await positionsFrom(await behind(1)), [4, 5]);
  });

  test('misses nothing of a log that was restored, and has given out positions a second time', async () => {
    org = await newLog(database, nowMs);
    await fill(2);
    await asOwner(database, `UPDATE heads SET epoch = 2 WHERE org = ${org}`);
    await fill(3);
    // An event that the backup held: exactly what comes after it.
    assert.deepEqual(await positionsFrom(await behind(2)), [3, 4, 5]);
    // One that it did not hold, and whose position another event has by now.
    assert.deepEqual(await positionsFrom(await behind(4)), [1, 2, 3, 4, 5]);
    assert.deepEqual(await positionsFrom(await behind(9)), [1, 2, 3, 4, 5]);
    assert.deepEqual(await positionsFrom(await behind(4, 2)), [5]);
    assert.equal(await behind(9, 2), null);
    assert.equal(await behind(1, 3), null);
  });
}

const storages = await Promise.all(engineNames.map(createStorage));
after(stopServers);
for (const [i, engine] of engineNames.entries()) {
  const storage = storages[i] ?? null;
  describe(`a tail on ${engine}`, { skip: storage === null ? 'no PostgreSQL on this machine' : false }, () => {
    if (storage !== null) describeTail(storage);
  });
}
