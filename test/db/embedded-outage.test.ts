/** What becomes of the embedded engine on a bad day: a disk that fills up, a statement that spins, a folder that cannot be opened again. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { systemClock } from '../../src/clock.js';
import type { Clock } from '../../src/clock.js';
import { composeServer } from '../../src/compose.js';
import { StorageError } from '../../src/db/database.js';
import type { EmbeddedDatabase, EmbeddedOptions } from '../../src/db/embedded.js';
import { openEmbedded } from '../../src/db/embedded.js';
import { createLogger } from '../../src/log.js';
import { signal } from '../support/conformance.js';
import { createOrg } from '../support/client.js';
import { testConfig } from '../support/node.js';
import { createStorage, stopServers } from '../support/storage.js';

after(stopServers);

const mb = 1024 * 1024;
const statement = (text: string) => ({ name: text.slice(0, 60), text });

function open(dataDir: string, options: Partial<EmbeddedOptions> = {}): Promise<EmbeddedDatabase> {
  const onLockLost = (reason: string): never => assert.fail(reason);
  return openEmbedded({ dataDir, clock: systemClock, onLog: () => {}, onLockLost, ...options });
}

it('refuses events while the disk is nearly full, says so, serves everything else, and goes on by itself', async (t) => {
  const storage = await createStorage('embedded');
  assert.ok(storage !== null);
  let freeBytesMin = 0;
  const { dataDir } = storage.config;
  const database = await open(dataDir, { freeBytesMin: () => freeBytesMin });
  const config = testConfig(storage);
  const log = createLogger(config.logLevel);
  const stats = () => database.stats();
  const parts = {
    config,
    log,
    onProgress: () => {},
    clock: systemClock,
    database,
    stats,
    embedded: database,
    ingestLanes: 1,
  };
  const node = await composeServer(parts);
  t.after(async () => {
    await node.stop();
    await storage.remove();
  });
  const { client } = await createOrg(node.address);
  const event = { type: 'a', payload: 1 };
  assert.equal((await client.post('/v1/events', event)).status, 201);

  freeBytesMin = Number.MAX_SAFE_INTEGER;
  await database.space.check();
  const refused = await client.post('/v1/events', event);
  assert.deepEqual([refused.status, refused.json.code], [503, 'storage_unavailable']);
  assert.match(refused.json.detail, /disk/);
  assert.ok(Number(refused.headers.get('retry-after')) > 0);
  const ready = await client.get('/readyz');
  assert.deepEqual([ready.status, ready.json.failing], [503, 'disk']);
  const received = await client.post('/v1/inbox/receive', {});
  assert.equal(received.json.data.length, 1);
  const acknowledged = await client.post('/v1/inbox/ack', { ids: [received.json.data[0].id] });
  assert.equal(acknowledged.status, 200);

  freeBytesMin = 0;
  await database.space.check();
  assert.equal((await client.post('/v1/events', event)).status, 201);
  assert.equal((await client.get('/readyz')).status, 200);
});

it('survives a full disk: a panic is no 2xx, and it serves again once there is room, with all that it acknowledged', async (t) => {
  const mount = await mkdtemp(join(tmpdir(), 'sluice-full-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=160m', 'tmpfs', mount], { stdio: 'ignore' });
  } catch {
    await rm(mount, { recursive: true });
    t.skip('NOT TESTED: a small file system cannot be mounted here (that takes root)');
    return;
  }
  const ballast = join(mount, 'ballast');
  const logged: string[] = [];
  const database = await open(join(mount, 'data'), { onLog: (line) => logged.push(line) });
  t.after(async () => {
    await database.close();
    execFileSync('umount', [mount]);
    await rm(mount, { recursive: true });
  });
  const owner = { role: 'owner' } as const;
  await database.transaction(owner, (tx) => tx.script('CREATE TABLE filled (a integer, b text)'));
  const insert = {
    name: 'fill',
    text: `INSERT INTO filled SELECT $1, string_agg(md5(random()::text), '') FROM generate_series(1, 8000)`,
  };
  await database.maintain('ALTER TABLE filled ALTER b SET STORAGE EXTERNAL');
  await writeFile(ballast, Buffer.alloc(60 * mb));
  const acknowledged: number[] = [];
  const failure = await (async () => {
    for (let i = 0; ; i++) {
      try {
        await database.query(owner, insert, [i]);
        acknowledged.push(i);
      } catch (error) {
        // The table may find no room before the log does; that is an ordinary error, and no panic.
        if (!(error instanceof StorageError) || error.kind !== 'sql') return error;
        await database.maintain('SELECT pg_switch_wal()').catch(() => {});
      }
    }
  })();
  assert.ok(failure instanceof StorageError);
  assert.ok(
    logged.some((line) => line.includes('PANIC')),
    'the engine never panicked',
  );
  await assert.rejects(database.query(owner, insert, [-1]), StorageError);

  await rm(ballast);
  const roomAt = performance.now();
  const read = (): Promise<number[]> =>
    database.query<{ a: number }>(owner, statement('SELECT a FROM filled ORDER BY a')).then(
      ({ rows }) => rows.map(({ a }) => a),
      () => pause(20).then(read),
    );
  const stored = await read();
  t.diagnostic(`served again ${Math.round(performance.now() - roomAt)} ms after there was room`);
  assert.deepEqual(
    acknowledged.filter((a) => !stored.includes(a)),
    [],
  );
  assert.ok(!stored.includes(-1));
  await database.query(owner, insert, [-2]);
});

it('ends a statement that spins; others fail cleanly meanwhile, and everything is served again', async (t) => {
  const storage = await createStorage('embedded');
  assert.ok(storage !== null);
  const database = await open(storage.config.dataDir, { waitMsMax: 1_000 });
  t.after(async () => {
    await database.close();
    await storage.remove();
  });
  const system = { role: 'owner', priority: 'read' } as const;
  await database.transaction({ role: 'owner' }, (tx) =>
    tx.script('CREATE TABLE kept (a integer); INSERT INTO kept VALUES (1)'),
  );
  const spinning = database.query(
    { role: 'app', org: '1' },
    statement('SELECT count(*) FROM generate_series(1, 100000000000)'),
  );
  const startedAt = performance.now();
  const others = Array.from({ length: 5 }, () => database.query(system, statement('SELECT a FROM kept')));
  const unavailable = (error: unknown) => error instanceof StorageError && error.kind === 'unavailable';
  for (const other of others) await assert.rejects(other, unavailable);
  await assert.rejects(spinning, (error) => error instanceof StorageError && error.kind !== 'sql');
  const again = (): Promise<number> =>
    database.query(system, statement('SELECT a FROM kept')).then(
      ({ rowCount }) => rowCount,
      () => again(),
    );
  assert.equal(await again(), 1);
  t.diagnostic(`served again ${Math.round(performance.now() - startedAt)} ms after the statement began`);
  assert.equal(database.stats().reopens, 1);
});

it('gives up when the folder cannot be opened again, and says what to do', async (t) => {
  const storage = await createStorage('embedded');
  assert.ok(storage !== null);
  // Between two tries nothing else keeps this process alive.
  const alive = setInterval(() => {}, 1_000);
  t.after(async () => {
    clearInterval(alive);
    await storage.remove();
  });
  const { dataDir } = storage.config;
  // Pauses pass a hundred times as fast; limits stay as they are.
  const hasty: Clock = {
    ...systemClock,
    after: (ms, fire) => systemClock.after(ms <= 1_000 ? ms / 100 : ms, fire),
    monotonic: () => performance.now() * 100,
  };
  const lost = signal<string>();
  const database = await open(dataDir, { clock: hasty, onLost: lost.fire, statementTimeoutMs: 5_000 });
  await rename(join(dataDir, 'pg', 'global'), join(dataDir, 'pg', 'global-away'));
  await database.query({ role: 'owner' }, statement('SELECT pg_sleep(60)')).catch(() => {});
  assert.match(
    await lost.promise,
    /could not be opened again, \d+ times: (?!.*tried again shortly).*Everything that was acknowledged is in that folder/s,
  );
  await rename(join(dataDir, 'pg', 'global-away'), join(dataDir, 'pg', 'global'));
  const reopened = await open(dataDir);
  assert.equal((await reopened.query({ role: 'owner' }, statement('SELECT 1'))).rowCount, 1);
  await reopened.close();
});
