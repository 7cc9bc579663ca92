/** The engine has no processes in the background, so the host does their work; without it, log, tables and transaction ids grow until they stop it. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { systemClock } from '../../src/clock.js';
import { EmbeddedMaintenance } from '../../src/db/embedded-maintenance.js';
import type { MaintenanceOptions } from '../../src/db/embedded-maintenance.js';
import type { EmbeddedDatabase } from '../../src/db/embedded.js';
import { appendBatch } from '../../src/event-log/append.js';
import { partitionName } from '../../src/db/sql/partitions.js';
import { signal } from '../support/conformance.js';
import { newEvent } from '../support/event-log.js';
import { newLog, openLog } from '../support/log.js';
import { createStorage, stopServers } from '../support/storage.js';
import { TestClock } from '../support/test-clock.js';

after(stopServers);

const mb = 1024 * 1024;

describe('maintenance of the embedded engine', async () => {
  const storage = await createStorage('embedded');
  assert.ok(storage !== null);
  const engine = (await openLog(storage)) as EmbeddedDatabase;
  after(async () => {
    await engine.close();
    await storage.remove();
  });
  const org = await newLog(engine, Date.now());
  const done: string[] = [];
  const quiet = { onFailure: (error: unknown) => assert.fail(String(error)), onLarge: () => {} };
  const maintain = (options: Partial<MaintenanceOptions> = {}): EmbeddedMaintenance =>
    new EmbeddedMaintenance({ engine, clock: systemClock, onDone: (task) => done.push(task), ...quiet, ...options });
  const numberOf = async (text: string): Promise<number> => {
    const [row] = await engine.maintain<{ n: string }>(`SELECT (${text})::text AS n`);
    return Number(row?.n);
  };
  const walFiles = async (): Promise<number> =>
    (await readdir(join(storage.config.dataDir, 'pg', 'pg_wal'))).filter((name) => /^[0-9A-F]{24}$/.test(name)).length;
  const events = Array.from({ length: 100 }, () => newEvent(org, `"${randomBytes(15_000).toString('base64')}"`));
  const writeLog = async (bytes: number): Promise<void> => {
    const end = (): Promise<number> => numberOf(`SELECT pg_current_wal_insert_lsn() - '0/0'`);
    const start = await end();
    do await appendBatch(engine, events, Date.now());
    while ((await end()) - start < bytes);
  };
  const churn = async (times: number): Promise<void> => {
    for (let i = 0; i < times; i++) {
      await engine.maintain(`INSERT INTO churn SELECT generate_series(1, 3000), repeat('x', 100)`);
      await engine.maintain('DELETE FROM churn');
    }
  };

  it('keeps the log flat with a checkpoint whenever there is enough of it; without one it grows', async () => {
    const maintenance = maintain({ walBytesMax: 8 * mb });
    await maintenance.tick();
    done.length = 0;
    const before = await walFiles();
    for (let i = 0; i < 8; i++) {
      await writeLog(16 * mb);
      await maintenance.tick();
      assert.equal(maintenance.walBytes, 0);
    }
    assert.equal(done.filter((task) => task === 'checkpoint').length, 8);
    const kept = await walFiles();
    assert.ok(kept <= before + 3, `${before} files of the log became ${kept}`);
    await writeLog(128 * mb);
    assert.ok((await walFiles()) > kept + 3, 'the same without a checkpoint takes no more files');
  });

  it('makes its first checkpoint soon after the start, however busy', async () => {
    const maintenance = maintain();
    await writeLog(2 * mb);
    done.length = 0;
    await maintenance.tick();
    assert.deepEqual(done, ['checkpoint']);
    await writeLog(2 * mb);
    await maintenance.tick();
    assert.deepEqual(done, ['checkpoint']);
  });

  it('tells how long nobody else was served, without its own wait for others', async () => {
    const release = signal();
    const holder = engine.transaction({ role: 'owner' }, () => release.promise);
    const waited: number[] = [];
    const task = engine.maintain('SELECT pg_sleep(0.05)', (seconds) => void waited.push(seconds));
    await pause(1_000);
    release.fire();
    await Promise.all([holder, task]);
    assert.ok(waited.length === 1 && waited[0]! >= 0.05 && waited[0]! < 0.9, String(waited));
  });

  it('makes a checkpoint of less once nobody writes, so that the next start has nothing to recover', async () => {
    const maintenance = maintain();
    await maintenance.tick();
    await writeLog(2 * mb);
    done.length = 0;
    await maintenance.tick();
    assert.deepEqual(done, []);
    await maintenance.tick();
    assert.deepEqual(done, ['checkpoint']);
  });

  it('keeps a table flat in which rows come and go; without a vacuum it grows', async () => {
    await engine.maintain('CREATE TABLE churn (a integer, b text)');
    const size = (): Promise<number> => numberOf(`pg_relation_size('churn')`);
    const clock = new TestClock();
    const maintenance = maintain({ clock });
    const sizes: number[] = [];
    for (let i = 0; i < 6; i++) {
      await churn(1);
      await flushStatistics();
      clock.advance(10_000);
      await maintenance.tick();
      sizes.push(await size());
    }
    assert.ok((sizes.at(-1) ?? 0) <= 2 * (sizes[0] ?? 0), `pages grew: ${sizes.join(', ')}`);
    await churn(6);
    assert.ok((await size()) > 3 * (sizes[0] ?? 0), 'the same without a vacuum takes no more room');
  });

  it('freezes old transaction ids, the ids of partitions once nobody writes to them any more', async () => {
    const today = partitionName(Math.floor(Date.now() / 86_400_000));
    const yesterday = partitionName(Math.floor(Date.now() / 86_400_000) - 1);
    for (let i = 0; i < 200; i++) await engine.maintain('SELECT pg_current_xact_id()');
    const age = (table: string): Promise<number> =>
      numberOf(`SELECT age(relfrozenxid) FROM pg_class WHERE oid = '${table}'::regclass`);
    assert.ok((await age('heads')) > 100 && (await age(yesterday)) > 100 && (await age(today)) > 100);
    const maintenance = maintain({ freezeAgeMin: 100 });
    done.length = 0;
    do {
      done.length = 0;
      await maintenance.tick();
    } while (done.includes('freeze'));
    assert.ok((await age('heads')) < 200 && (await age(yesterday)) < 200);
    assert.ok((await age(today)) > 200);
  });

  it('says once a day that the database is too large for this engine', async () => {
    const said: number[] = [];
    const clock = new TestClock();
    const large = { maintain: async <Row>() => [{ bytes: '6000000000' }] as Row[], fsyncs: 0 };
    const options = { engine: large, clock, onLarge: (bytes: number) => void said.push(bytes), walBytesMax: Infinity };
    const maintenance = maintain(options);
    for (let minute = 0; minute < 60; minute++) {
      await maintenance.tick();
      clock.advance(60_000);
    }
    assert.deepEqual(said, [6_000_000_000]);
    clock.advance(86_400_000);
    await maintenance.tick();
    assert.equal(said.length, 2);
  });

  /** The engine counts dead rows for everybody at the end of a statement, but at most once a second. */
  async function flushStatistics(): Promise<void> {
    await engine.maintain('SELECT pg_stat_force_next_flush()');
  }
});
