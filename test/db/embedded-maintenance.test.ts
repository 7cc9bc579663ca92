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
import { withoutRests } from '../support/embedded-maintenance.js';
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
    await writeLog(2 * mb);
    await maintenance.tick();
    assert.equal(done.filter((task) => task === 'checkpoint').length, 1);
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
    const maintenance = maintain({ walBytesMax: 24 * mb });
    await maintenance.tick();
    await writeLog(2 * mb);
    done.length = 0;
    await maintenance.tick();
    assert.equal(done.includes('checkpoint'), false);
    await maintenance.tick();
    assert.ok(done.includes('checkpoint'));
  });

  it('keeps a table flat in which rows come and go; without a vacuum it grows', async () => {
    await engine.maintain('CREATE TABLE churn (a integer, b text)');
    const size = (): Promise<number> => numberOf(`pg_relation_size('churn')`);
    const clock = new TestClock();
    const maintenance = maintain({ clock, engine: withoutRests(engine) });
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

  it('freezes old transaction ids, of every table', async () => {
    const age = (): Promise<number> =>
      numberOf(`SELECT max(age(relfrozenxid)) FROM pg_class WHERE relkind IN ('r', 'm', 't')`);
    for (let i = 0; i < 200; i++) await engine.maintain('SELECT pg_current_xact_id()');
    assert.ok((await age()) >= 200);
    await maintain({ freezeAgeMin: 100 }).tick();
    assert.ok((await age()) < 200, `${await age()} transactions`);
  });

  it('freezes a table as it grows, so that no freezing is ever long; without it, all of its pages are left', async () => {
    const table = partitionName(Math.floor(Date.now() / 86_400_000));
    const pages = (): Promise<number> =>
      numberOf(
        `SELECT (pg_relation_size(oid) + pg_relation_size(reltoastrelid)) / 8192 FROM pg_class WHERE relname = '${table}'`,
      );
    const unfrozen = async (): Promise<number> =>
      (await pages()) -
      (await numberOf(
        `SELECT c.relallfrozen + t.relallfrozen FROM pg_class AS c JOIN pg_class AS t ON t.oid = c.reltoastrelid WHERE c.relname = '${table}'`,
      ));
    const maintenance = maintain({ walBytesMax: 8 * mb });
    await maintenance.tick();
    const before = await pages();
    const log = (): Promise<number> => numberOf(`SELECT pg_current_wal_insert_lsn() - '0/0'`);
    let written = 0;
    let most = 0;
    for (let i = 0; i < 6; i++) {
      await writeLog(12 * mb);
      most = Math.max(most, await unfrozen());
      const end = await log();
      await maintenance.tick();
      written += (await log()) - end;
    }
    assert.ok((await pages()) - before > 6_000, 'enough was written');
    assert.ok(most < 3_000, `${most} pages were left for one freezing`);
    assert.ok(written < 12 * mb, `${written} bytes of log: pages were frozen after the checkpoint that wrote them`);
    await writeLog(36 * mb);
    assert.ok((await unfrozen()) > 3_000, 'the same without freezing leaves more');
  });

  it('tries a freezing that failed again at the next look, not a day later', async () => {
    let failing = true;
    const frozen: string[] = [];
    const maintainOrFail = async <Row>(text: string): Promise<Row[]> => {
      if (!text.startsWith('VACUUM')) return [{ name: 'events', pages: 5_000, is_old: true, bytes: '0' }] as Row[];
      if (failing) throw new Error('no');
      frozen.push(text);
      return [];
    };
    const failures: unknown[] = [];
    const clock = new TestClock();
    const maintenance = new EmbeddedMaintenance({
      engine: { maintain: maintainOrFail, fsyncs: 0 },
      clock,
      onDone: () => {},
      onLarge: () => {},
      onFailure: (error) => failures.push(error),
      deadRowsMin: 1,
    });
    await maintenance.tick();
    assert.equal(failures.length, 1);
    failing = false;
    clock.advance(1_000);
    await maintenance.tick();
    assert.ok(
      frozen.some((text) => text.includes('FREEZE')),
      frozen.join(),
    );
  });

  it('rests ten times as long as a task took, so that others are served; a stop ends the rest', async () => {
    const tasks: string[] = [];
    const clock = new TestClock();
    const pass = async (ms: number): Promise<void> => {
      clock.advance(ms);
      await pause(10);
    };
    const begin = async (taskSeconds: number, tables = 1): Promise<EmbeddedMaintenance> => {
      tasks.length = 0;
      const row = { pages: 5_000, is_old: true, bytes: String(8 * mb) };
      const rows = Array.from({ length: tables }, (_, i) => ({ ...row, name: `table_${i}` }));
      const maintainAll = async <Row>(_text: string, onDone?: (seconds: number) => void): Promise<Row[]> => {
        onDone?.(taskSeconds);
        return rows as Row[];
      };
      const onDone = (task: string): void => void tasks.push(task);
      const maintenance = maintain({
        engine: { maintain: maintainAll, fsyncs: 0 },
        clock,
        onDone,
        deadRowsMin: 1,
      });
      await maintenance.start();
      await pass(500);
      return maintenance;
    };

    const resting = await begin(0.004);
    assert.deepEqual(tasks, ['vacuum']);
    await pass(39);
    assert.deepEqual(tasks, ['vacuum']);
    await pass(1);
    assert.deepEqual(tasks, ['vacuum', 'freeze']);
    await pass(40);
    assert.deepEqual(tasks, ['vacuum', 'freeze', 'checkpoint']);
    await resting.stop();

    const long = await begin(1);
    await pass(100);
    assert.deepEqual(tasks, ['vacuum', 'freeze'], 'a rest is 100 ms at most');
    await long.stop();
    assert.deepEqual(tasks, ['vacuum', 'freeze', 'checkpoint'], 'what was due is done before the stop');

    const many = await begin(1, 50);
    for (let rests = 0; rests < 3; rests++) {
      assert.equal(tasks.length, 1 + rests);
      await pass(100);
    }
    assert.equal(tasks.length, 101, 'all rests of a look are 300 ms at most');
    await many.stop();

    const instant = await begin(0);
    assert.deepEqual(tasks, ['vacuum', 'freeze', 'checkpoint'], 'without a rest, one right behind the other');
    await instant.stop();
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
