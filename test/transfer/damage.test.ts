import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { after, test } from 'node:test';
import type { TestContext } from 'node:test';
import type { Database } from '../../src/db/database.js';
import { migrate, schemaVersions } from '../../src/db/migrate.js';
import { ChunkWriter } from '../../src/transfer/chunk-writer.js';
import { FormatError, headerLine } from '../../src/transfer/format.js';
import { checkImport, DiskShort, ImportConflict, importOrgs } from '../../src/transfer/import.js';
import { ChunkReader, textOf } from '../../src/transfer/read-chunks.js';
import { append, newLog, openDatabase, openLog } from '../support/log.js';
import { importMutant } from '../support/mutant.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import { exported, imported, inPieces } from './world.js';

after(stopServers);

/** An export of one org with `events` events. */
async function smallExport(events: number, gzip = false): Promise<Buffer> {
  const time = '2024-01-01T00:00:00.000Z';
  const pieces: Buffer[] = [];
  const writer = new ChunkWriter(async (bytes) => void pieces.push(bytes), gzip);
  writer.begin(headerLine(2));
  const org = {
    line: 'org',
    org: '7',
    name: 'n',
    tier: 'pro',
    rate_per_minute: null,
    burst: null,
    limit_mode: 'enforce',
  };
  const head = {
    line: 'head',
    epoch: 1,
    position: events,
    day: 19_000,
    received_at: time,
    first_position: 1,
    first_day: 19_000,
  };
  const event = {
    type: 't',
    subject: null,
    occurred_at: null,
    received_at: time,
    attributes: null,
    payload: '{"a":1}',
  };
  const lines = [
    { ...org, retention_days: 30, suspended: false, created_at: time },
    head,
    ...Array.from({ length: events }, (_, i) => ({ line: 'event', position: i + 1, epoch: 1, day: 19_000, ...event })),
  ];
  await writer.add(lines.map((line) => JSON.stringify(line)));
  await writer.add([writer.outline.orgEndLine]);
  await writer.end();
  return Buffer.concat(pieces);
}

/** The lines of an export that is read to its end. */
async function linesOf(bytes: Buffer, Reader = ChunkReader): Promise<string[]> {
  const lines: string[] = [];
  for await (const chunk of new Reader().read(textOf(inPieces(bytes)))) lines.push(...chunk.lines.map(String));
  return lines;
}

function flipped(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] = (copy[at] ?? 0) ^ (1 << randomInt(8));
  return copy;
}

test('one flipped bit, in any byte, is refused', async () => {
  const small = await smallExport(2);
  assert.equal((await linesOf(small)).length, 5);
  for (let at = 0; at < small.length; at++) {
    await assert.rejects(linesOf(flipped(small, at)), FormatError, `byte ${at} of ${small.length}`);
  }
  const long = await smallExport(2_500);
  assert.equal((await linesOf(long)).length, 2_503);
  for (let i = 0; i < 50; i++) {
    const at = randomInt(long.length);
    await assert.rejects(linesOf(flipped(long, at)), FormatError, `byte ${at} of ${long.length}`);
  }
});

test('with gzip it is refused, or it changes nothing of what is read', async () => {
  const small = await smallExport(2, true);
  const lines = await linesOf(small);
  let harmless = 0;
  for (let at = 0; at < small.length; at++) {
    const found = await linesOf(flipped(small, at)).catch((error: unknown) => error);
    if (found instanceof FormatError) continue;
    assert.deepEqual(found, lines, `byte ${at} of ${small.length}`);
    harmless++;
  }
  // The time, the flags and the extra field in the header of each of the two members.
  assert.ok(harmless <= 2 * 20, `${harmless} bytes did not matter`);
});

test('a reader that left the checksum out would be noticed', async () => {
  const small = await smallExport(2);
  const at = small.indexOf('{\\"a\\":1}') + 7;
  await assert.rejects(linesOf(flipped(small, at)), FormatError);
  const { ChunkReader: Careless } = await importMutant<{ readonly ChunkReader: typeof ChunkReader }>(
    'transfer/read-chunks.js',
    'line.toString() !== expected',
    'false',
  );
  const changed = Buffer.from(small);
  changed.write('2', at);
  assert.equal((await linesOf(changed, Careless)).length, 5);
});

test('an export that was cut anywhere is refused', async () => {
  for (const gzip of [false, true]) {
    const small = await smallExport(2, gzip);
    for (let length = 0; length < small.length; length++) {
      await assert.rejects(linesOf(small.subarray(0, length)), FormatError, `${length} of ${small.length}`);
    }
  }
});

test('what follows the end, another version and another order are refused', async () => {
  const small = (await smallExport(1)).toString();
  const refusals: [string, RegExp][] = [
    [`${small}{"line":"org"}\n`, /goes on after its end/],
    [small.replace('"version":2', '"version":3'), /format version 3/],
    [small.replace('sluice-export', 'other'), /no export of Sluice/],
    ['', /stops before its end/],
  ];
  for (const [text, message] of refusals) {
    await assert.rejects(
      linesOf(Buffer.from(text)),
      (error: unknown) => error instanceof FormatError && message.test(error.message),
    );
  }
});

async function openTarget(t: TestContext, engine: (typeof engineNames)[number]): Promise<Database | null> {
  const storage = await createStorage(engine);
  if (storage === null) return null;
  const database = await openDatabase(storage);
  await migrate(database, () => {});
  t.after(async () => {
    await database.close();
    await storage.remove();
  });
  return database;
}

async function orgs(database: Database): Promise<{ org: string; suspended: boolean }[]> {
  const text = 'SELECT org, suspended FROM orgs ORDER BY org';
  const { rows } = await database.query<{ org: string; suspended: boolean }>(
    { role: 'system' },
    { name: 'test_orgs', text },
  );
  return rows;
}

for (const engine of engineNames) {
  test(`on ${engine}, a damaged file changes nothing where it can be read twice, and leaves no usable org where it cannot`, async (t) => {
    const database = await openTarget(t, engine);
    if (database === null) return t.skip('no PostgreSQL on this machine');
    const options = { schemaVersion: (await schemaVersions(database)).newest, nowMs: Date.now, onProgress: () => {} };
    const whole = await smallExport(2_500);
    const damaged = flipped(whole, whole.length - 5_000);
    await assert.rejects(checkImport(database, inPieces(damaged), options), FormatError);
    assert.deepEqual(await orgs(database), []);

    const isDiskShort = (): boolean => true;
    await assert.rejects(importOrgs(database, inPieces(whole), { ...options, isDiskShort }), DiskShort);
    assert.deepEqual(await orgs(database), []);

    await assert.rejects(importOrgs(database, inPieces(damaged), options), FormatError);
    assert.deepEqual(await orgs(database), [{ org: '7', suspended: true }]);
    assert.equal((await imported(database, whole)).outcome, 'imported');
    assert.deepEqual(await orgs(database), [{ org: '7', suspended: false }]);
    assert.equal((await imported(database, whole)).outcome, 'nothing_to_do');
    const { rows } = await database.query<{ epoch: number }>(
      { role: 'system' },
      { name: 'test_epoch', text: 'SELECT epoch FROM heads' },
    );
    assert.deepEqual(rows, [{ epoch: 2 }]);
  });

  test(`on ${engine}, an org that is there already is refused before anything is changed`, async (t) => {
    const database = await openTarget(t, engine);
    if (database === null) return t.skip('no PostgreSQL on this machine');
    const options = { schemaVersion: (await schemaVersions(database)).newest, nowMs: Date.now, onProgress: () => {} };
    await imported(database, await smallExport(1));
    // The same org further on, and so far that it begins with the same chunk.
    for (const events of [2, 2_500]) {
      const other = await smallExport(events);
      for (const run of [checkImport, importOrgs]) {
        await assert.rejects(run(database, inPieces(other), options), ImportConflict);
      }
    }
    assert.deepEqual(await orgs(database), [{ org: '7', suspended: false }]);
    const again = await exported(database);
    assert.equal(again.toString().match(/"line":"event"/g)?.length, 1);
  });
}

test('an export that begins like an imported one and goes on otherwise is refused', async (t) => {
  const storage = await createStorage('embedded');
  assert.ok(storage !== null);
  const source = await openLog(storage);
  t.after(async () => {
    await source.close();
    await storage.remove();
  });
  const nowMs = Date.now();
  const all = await Promise.all([newLog(source, nowMs), newLog(source, nowMs)]);
  const [first = '', second = ''] = all.toSorted((a, b) => Number(a) - Number(b));
  await append(
    source,
    first,
    Array.from({ length: 1_000 }, () => ({})),
    nowMs,
  );
  await append(
    source,
    first,
    Array.from({ length: 500 }, () => ({})),
    nowMs,
  );
  const before = await exported(source);
  await append(source, second, [{}], nowMs);
  const grown = await exported(source);
  const firstChunk = before.subarray(0, before.indexOf('{"line":"checkpoint"'));
  assert.ok(grown.subarray(0, firstChunk.length).equals(firstChunk));

  const target = await openTarget(t, 'embedded');
  assert.ok(target !== null);
  await imported(target, before);
  await assert.rejects(imported(target, grown), ImportConflict);
});
