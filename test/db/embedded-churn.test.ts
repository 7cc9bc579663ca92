/** Events come, are consumed, and fall out of retention: whatever the embedded engine keeps for that must not grow with time. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, it } from 'node:test';
import type { EmbeddedDatabase } from '../../src/db/embedded.js';
import { EmbeddedMaintenance } from '../../src/db/embedded-maintenance.js';
import { createPartition, partitionName } from '../../src/db/sql/partitions.js';
import { acknowledgeLease } from '../../src/subscriptions/acknowledge.js';
import { receive } from '../../src/subscriptions/receive.js';
import { append, asOwner, dayMs, newLog, openLog } from '../support/log.js';
import { withoutRests } from '../support/embedded-maintenance.js';
import { createStorage, stopServers } from '../support/storage.js';
import { TestClock } from '../support/test-clock.js';

after(stopServers);

const orgs = 5;
const eventsPerMinute = 600;
const dayEveryMinutes = 5;
const daysKept = 2;

/** What no compression makes smaller. */
const noise = randomBytes(2_000).toString('base64');

interface Kept {
  readonly walFiles: number;
  readonly databaseBytes: number;
  readonly memoryBytes: number;
}

it('keeps log, data and memory flat through an hour of events that come, are acknowledged, and expire', async (t) => {
  const [early, late] = await liveFor(60, 20, true);
  t.diagnostic(`after 20 minutes ${JSON.stringify(early)}, after 60 ${JSON.stringify(late)}`);
  assert.ok(late.walFiles <= early.walFiles + 1, 'the log grew');
  assert.ok(late.databaseBytes <= 1.15 * early.databaseBytes, 'the data grew');
  assert.ok(late.memoryBytes <= 1.05 * early.memoryBytes, 'the memory grew');
});

it('would grow without maintenance and retention', async () => {
  const [early, late] = await liveFor(25, 10, false);
  assert.ok(late.walFiles > early.walFiles + 1, 'the log did not grow');
  assert.ok(late.databaseBytes > 1.15 * early.databaseBytes, 'the data did not grow');
});

/** What is kept after some of the minutes, and after all. A minute of the test's clock takes a fraction of a second. */
async function liveFor(minutes: number, earlyMinute: number, isMaintained: boolean): Promise<[Kept, Kept]> {
  const storage = await createStorage('embedded');
  assert.ok(storage !== null);
  const clock = new TestClock();
  const database = (await openLog(storage)) as EmbeddedDatabase;
  try {
    const names = await Promise.all(Array.from({ length: orgs }, () => newLog(database, clock.now())));
    const maintenance = new EmbeddedMaintenance({
      engine: withoutRests(database),
      clock,
      // What an hour of full load would write is compressed, and so is what asks for a checkpoint.
      walBytesMax: 2 * 1024 * 1024,
      deadRowsMin: 50,
      onDone: () => {},
      onLarge: () => {},
      onFailure: (error) => assert.fail(String(error)),
    });
    const kept: Kept[] = [];
    const today = (): number => Math.floor(clock.now() / dayMs);
    const firstDay = today();
    for (let minute = 1; minute <= minutes; minute++) {
      for (const org of names) await liveAMinute(database, org, clock.now());
      clock.advance(60_000);
      if (minute % dayEveryMinutes === 0) {
        clock.advance(dayMs);
        await createPartition(database, today() + 1);
        const expired = today() - daysKept;
        if (isMaintained && expired >= firstDay) await asOwner(database, `DROP TABLE ${partitionName(expired)}`);
      }
      await database.maintain('SELECT pg_stat_force_next_flush()');
      if (isMaintained) await maintenance.tick();
      if (minute === earlyMinute || minute === minutes) kept.push(await measure(database, storage.config.dataDir));
    }
    return kept as [Kept, Kept];
  } finally {
    await database.close();
    await storage.remove();
  }
}

async function liveAMinute(database: EmbeddedDatabase, org: string, nowMs: number): Promise<void> {
  const events = Array.from({ length: eventsPerMinute / orgs }, (_, i) => ({ payload: `"${i} ${noise}"` }));
  await append(database, org, events, nowMs);
  for (let handed = 0; handed < events.length; handed += 40) {
    const lease = `lease ${nowMs} ${handed}`;
    const leaseEndsAtMs = nowMs + 60_000;
    await receive(database, { org, subscription: 0, eventsMax: 40, wantsPayload: true, nowMs, lease, leaseEndsAtMs });
    await acknowledgeLease(database, org, 0, lease);
  }
}

async function measure(database: EmbeddedDatabase, dataDir: string): Promise<Kept> {
  const wal = (await readdir(join(dataDir, 'pg', 'pg_wal'))).filter((name) => /^[0-9A-F]{24}$/.test(name));
  const [row] = await database.maintain<{ bytes: string }>('SELECT pg_database_size(current_database()) AS bytes');
  return { walFiles: wal.length, databaseBytes: Number(row?.bytes), memoryBytes: database.stats().memoryBytes };
}
