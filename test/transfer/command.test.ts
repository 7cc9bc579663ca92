import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { runExport } from '../../src/cli/export.js';
import { runImport } from '../../src/cli/import.js';
import { decodeEventId } from '../../src/event-log/event-id.js';
import { Client, createOrg } from '../support/client.js';
import { openLog, openDatabase, asOwner } from '../support/log.js';
import { spawnNode, startNode, testConfig } from '../support/node.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { EngineName, TestStorage } from '../support/storage.js';
import { sluice } from './command.js';
import { comparable, exported, makeWorld } from './world.js';

const killsMax = process.env['SLUICE_TEST_SOAK'] === '1' ? 40 : 3;

/** Removed at the end, when whatever stood on them is stopped. */
const storages: TestStorage[] = [];
after(async () => {
  for (const storage of storages) await storage.remove();
  await stopServers();
});

async function storageOf(engine: EngineName): Promise<TestStorage | null> {
  const storage = await createStorage(engine);
  if (storage !== null) storages.push(storage);
  return storage;
}

async function folderOf(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'sluice-transfer-'));
  t.after(() => rm(folder, { recursive: true }));
  return folder;
}

let source: Promise<Buffer> | undefined;

/** An export of a world, made once. */
function sourceBytes(): Promise<Buffer> {
  source ??= (async () => {
    const storage = await createStorage('embedded');
    assert.ok(storage !== null);
    const database = await openLog(storage);
    await makeWorld(database, 5_000);
    const bytes = await exported(database);
    await database.close();
    await storage.remove();
    return bytes;
  })();
  return source;
}

test('a long import into the embedded engine is maintained as a server is: a checkpoint while it runs', async () => {
  const [storage, bytes] = await Promise.all([storageOf('embedded'), sourceBytes()]);
  assert.ok(storage !== null);
  const command = sluice(storage, ['import', '-']);
  const lastCheckpointAt = async (): Promise<number> =>
    (await stat(join(storage.config.dataDir, 'pg', 'global', 'pg_control'))).mtimeMs;
  const write = (from: number, to: number): Promise<unknown> =>
    new Promise((resolve) => command.child.stdin.write(bytes.subarray(from, to), resolve));
  // More than a pipe holds: when it is written, the engine is open and the import has begun.
  const [first, second] = [Math.floor(bytes.length * 0.1), Math.floor(bytes.length * 0.9)];
  await write(0, first);
  const before = await lastCheckpointAt();
  await write(first, second);
  const giveUpAt = Date.now() + 20_000;
  while ((await lastCheckpointAt()) === before) {
    assert.ok(Date.now() < giveUpAt, 'no checkpoint in 20 s');
    await pause(100);
  }
  command.child.stdin.end(bytes.subarray(second));
  assert.equal((await command.ended).code, 0);
});

for (const engine of engineNames) {
  test(`on ${engine}, an import that is killed again and again ends with all that was exported, and the epoch raised once`, async (t) => {
    const storage = await storageOf(engine);
    if (storage === null) return t.skip('no PostgreSQL on this machine');
    const bytes = await sourceBytes();
    const path = join(await folderOf(t), 'export');
    await writeFile(path, bytes);
    for (let kill = 0; kill < killsMax; kill++) {
      // Each later than the one before; what the pipe holds and the reader has ahead is far less than a part.
      const part = bytes.length / killsMax;
      const length = Math.floor(part * kill) + randomInt(Math.floor(part));
      const { child, ended } = sluice(storage, ['import']);
      await new Promise((resolve) => child.stdin.write(bytes.subarray(0, length), resolve));
      child.kill('SIGKILL');
      await ended;
    }
    const before = await openDatabase(storage);
    const { rows } = await before.query<{ chunks: string }>(
      { role: 'owner' },
      { name: 'test_chunks', text: 'SELECT chunks FROM imports' },
    );
    await before.close();
    const chunks = bytes.toString().match(/^\{"line":"checkpoint"/gm)?.length ?? 0;
    assert.ok(
      Number(rows[0]?.chunks) > 0 && Number(rows[0]?.chunks) < chunks,
      `${rows[0]?.chunks} of ${chunks} chunks`,
    );

    const last = await sluice(storage, ['import', path]).ended;
    assert.deepEqual([last.code, last.stdout.length], [0, 0], last.stderr);
    assert.match(last.stderr, /^Imported 4 orgs with \d+ events\.$/m);
    const again = await sluice(storage, ['import', path]).ended;
    assert.equal(again.code, 0, again.stderr);
    assert.match(again.stderr, /nothing to do/);
    const database = await openDatabase(storage);
    const result = await exported(database);
    await database.close();
    assert.deepEqual(comparable(result, 1), comparable(bytes));
  });
}

for (const [from, to] of [
  ['embedded', 'postgres'],
  ['postgres', 'embedded'],
] as const) {
  test(`a server moves from ${from} to ${to} through a pipe, and its clients go on`, async (t) => {
    const [old, young] = [await storageOf(from), await storageOf(to)];
    if (old === null || young === null) return t.skip('no PostgreSQL on this machine');
    const first = await spawnNode(old);
    t.after(() => first.end('SIGKILL'));
    const { client, key } = await createOrg(first.address);
    const event = { type: 'a.b', payload: { n: 1 }, dedup_id: 'once', subject: 's' };
    const sent = await client.post('/v1/events', event);
    const pending = await client.post('/v1/events', { type: 'a.c', payload: [2] });
    const received = await client.post('/v1/inbox/receive', { max: 1, lease_seconds: 3600 });
    assert.equal(received.json.data.length, 1, received.text);
    if (from === 'embedded') {
      const refused = await sluice(old, ['export']).ended;
      assert.equal(refused.code, 1);
      assert.equal(refused.stdout.length, 0);
      assert.match(refused.stderr, /in use by process \d+ .*Stop it/);
    }
    await first.end('SIGTERM');

    const [reading, writing] = [sluice(old, ['export', '--gzip']), sluice(young, ['import', '-'])];
    reading.child.stdout.pipe(writing.child.stdin);
    const ends = await Promise.all([reading.ended, writing.ended]);
    assert.deepEqual(
      ends.map(({ code }) => code),
      [0, 0],
      ends.map(({ stderr }) => stderr).join(),
    );

    const second = await startNode(young);
    t.after(() => second.stop());
    assert.equal(second.firstStart, null);
    const moved = new Client(second.address, key);
    assert.equal((await moved.get(`/v1/events/${sent.json.id}`)).text.includes('"payload":{"n":1}'), true);
    const repeated = await moved.post('/v1/events', event);
    assert.deepEqual([repeated.status, repeated.json.id], [200, sent.json.id]);
    const acknowledged = await moved.post('/v1/inbox/ack', { lease_id: received.json.lease_id });
    assert.equal(acknowledged.json.acknowledged, 1, acknowledged.text);
    const next = await moved.post('/v1/inbox/receive', {});
    assert.deepEqual(
      next.json.data.map(({ id }: { id: string }) => id),
      [pending.json.id],
    );
    const fresh = await moved.post('/v1/events', { type: 'a.b', payload: 3 });
    assert.equal(fresh.status, 201, fresh.text);
    const epochs = [sent, fresh].map(({ json }) => decodeEventId(json.id)?.epoch ?? NaN);
    assert.ok((epochs[1] ?? NaN) > (epochs[0] ?? NaN), epochs.join(' '));
    assert.ok(fresh.json.id > sent.json.id);
  });
}

test('an export says what it wrote, where it goes on, what is in its way, and that its reader has gone', async (t) => {
  const storage = await storageOf('embedded');
  assert.ok(storage !== null);
  const database = await openLog(storage);
  await makeWorld(database, 1_000);
  const bytes = await exported(database);
  await database.close();
  const path = join(await folderOf(t), 'export');
  const first = await sluice(storage, ['export', path]).ended;
  assert.deepEqual([first.code, first.stdout.length], [0, 0], first.stderr);
  assert.match(first.stderr, /^Exported 4 orgs with \d+ events to .*export\.$/m);
  assert.ok((await readFile(path)).equals(bytes));
  const second = await sluice(storage, ['export', path]).ended;
  assert.equal(second.code, 1);
  assert.match(second.stderr, /exists: go on with it by --resume, or give another name/);
  await writeFile(path, bytes.subarray(0, bytes.length - 1));
  assert.equal((await sluice(storage, ['export', '--resume', path]).ended).code, 0);
  assert.ok((await readFile(path)).equals(bytes));

  const again = await openDatabase(storage);
  await asOwner(again, `INSERT INTO imports VALUES (sha256('a'), 1, sha256('a'))`);
  await again.close();
  const { child, ended } = sluice(storage, ['export']);
  await once(child.stdout, 'readable');
  child.stdout.destroy();
  const { code, stderr } = await ended;
  assert.equal(code, 1);
  assert.match(stderr, /An import into this database has not come to its end/);
  assert.match(stderr, /Standard output was closed/);
});

test('first mistakes are told with what to do, and change nothing', async (t) => {
  const storage = await storageOf('embedded');
  assert.ok(storage !== null);
  const folder = await folderOf(t);
  const missing = { ...storage, config: { ...storage.config, dataDir: join(folder, 'typo') } };
  const nowhere = await sluice(missing, ['export']).ended;
  assert.deepEqual([nowhere.code, nowhere.stdout.length], [1, 0]);
  assert.match(nowhere.stderr, /There is no database in .*typo; name its folder with --data-dir/);
  assert.equal(existsSync(missing.config.dataDir), false);

  const bare = await createStorage('postgres');
  if (bare !== null) {
    const empty = await sluice(bare, ['export']).ended;
    assert.equal(empty.code, 1);
    assert.match(empty.stderr, /schema version 0, .*start it on that database once/);
  }

  const unread = await sluice(storage, ['import', join(folder, 'none')]).ended;
  assert.equal(unread.code, 1);
  assert.match(unread.stderr, /none cannot be read \(ENOENT\)/);

  const foreign = join(folder, 'foreign');
  await writeFile(foreign, 'something else\n');
  const other = await sluice(storage, ['import', foreign]).ended;
  assert.equal(other.code, 1);
  assert.match(other.stderr, /is no export of Sluice/);

  const config = testConfig(storage);
  const common = { config, notices: [], file: null };
  assert.equal(await runExport({ kind: 'export', gzip: false, resume: false, ...common }, true), 2);
  assert.equal(await runImport({ kind: 'import', ...common }, true), 2);
});
