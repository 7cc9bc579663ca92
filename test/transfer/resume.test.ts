import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import type { Database } from '../../src/db/database.js';
import { schemaVersions } from '../../src/db/migrate.js';
import { ChunkWriter } from '../../src/transfer/chunk-writer.js';
import { exportOrgs } from '../../src/transfer/export.js';
import {
  appendTo,
  createExportFile,
  ExportRefused,
  reopenExportFile,
  requireSameSource,
  syncExport,
  truncateExport,
} from '../../src/transfer/export-file.js';
import { append, asOwner, newLog, openLog } from '../support/log.js';
import { createStorage, stopServers } from '../support/storage.js';
import { exported, imported, makeWorld } from './world.js';

const isSoak = process.env['SLUICE_TEST_SOAK'] === '1';
const cutsMax = isSoak ? 500 : 20;

let database: Database;
let folder: string;
let removeStorage: () => Promise<void>;
before(async () => {
  const storage = await createStorage('embedded');
  assert.ok(storage !== null);
  removeStorage = () => storage.remove();
  folder = await mkdtemp(join(tmpdir(), 'sluice-export-'));
  database = await openLog(storage);
  await makeWorld(database, 2_000);
  // So much state that checkpoints fall into the middle of it.
  const org = await newLog(database, Date.now());
  await asOwner(
    database,
    `INSERT INTO dead_letters SELECT ${org}, 0, number, 1, 1, '2024-01-01' FROM generate_series(1, 2300) AS g (number)`,
  );
});
after(async () => {
  await database.close();
  await removeStorage();
  await rm(folder, { recursive: true });
  await stopServers();
});

/** What `sluice export --resume` does with a file that holds `bytes`. Returns what is in the file then, and where it went on. */
async function resumed(name: string, bytes: Buffer): Promise<{ readonly bytes: Buffer; readonly offset: number }> {
  const path = join(folder, name);
  await writeFile(path, bytes);
  const { newest } = await schemaVersions(database);
  const file = await reopenExportFile(path, name.endsWith('.gz'), newest);
  try {
    if (!file.isComplete) {
      await requireSameSource(database, file);
      await truncateExport(file);
      await exportOrgs(database, new ChunkWriter(appendTo(file), file.gzip, file.state), newest, () => {});
      await syncExport(file, path);
    }
  } finally {
    await file.handle.close();
  }
  return { bytes: await readFile(path), offset: file.offset };
}

for (const gzip of [false, true]) {
  describe(`an export ${gzip ? 'with' : 'without'} gzip that was cut`, () => {
    const name = gzip ? 'cut.gz' : 'cut';
    let whole: Buffer;
    before(async () => {
      whole = await exported(database, gzip);
    });

    test('anywhere, and resumed, is the same as one that was not', async () => {
      const cuts = [0, 1, 20, whole.length - 1, ...Array.from({ length: cutsMax }, () => randomInt(whole.length))];
      const offsets = new Set<number>();
      for (const cut of cuts) {
        const { bytes, offset } = await resumed(name, whole.subarray(0, cut));
        assert.ok(bytes.equals(whole), `cut at byte ${cut} of ${whole.length}`);
        assert.ok(offset <= cut);
        offsets.add(offset);
      }
      assert.ok(offsets.size > 2, 'it always went on from the same place');
    });

    test('and has rubbish behind the cut, goes on before the rubbish', async () => {
      const cut = Math.floor(whole.length * 0.7);
      const { bytes } = await resumed(name, Buffer.concat([whole.subarray(0, cut), Buffer.alloc(100_000, 'x\n')]));
      assert.ok(bytes.equals(whole));
    });

    test('behind its last line, has nothing to be done to it', async () => {
      const { bytes } = await resumed(name, whole);
      assert.ok(bytes.equals(whole));
    });
  });
}

test('an export with gzip is plain gzip of the very export without', async () => {
  assert.ok(gunzipSync(await exported(database, true)).equals(await exported(database)));
});

test('what was exported before the cut stays as it was, and goes up to the head of then, whatever came after', async (t) => {
  const storage = await createStorage('embedded');
  assert.ok(storage !== null);
  const other = await openLog(storage);
  t.after(async () => {
    await other.close();
    await storage.remove();
  });
  const org = await newLog(other, Date.now());
  const events = Array.from({ length: 1_500 }, (_, i) => ({ payload: String(i) }));
  await append(other, org, events.slice(0, 1_000), Date.now());
  await append(other, org, events.slice(1_000), Date.now());
  const whole = await exported(other);
  await append(other, org, [{ payload: '"late"' }], Date.now());

  const path = join(folder, 'grown');
  await writeFile(path, whole.subarray(0, whole.length - 30_000));
  const { newest } = await schemaVersions(other);
  const file = await reopenExportFile(path, false, newest);
  assert.ok(file.offset > 0, 'nothing of the first export was kept');
  await truncateExport(file);
  await exportOrgs(other, new ChunkWriter(appendTo(file), false, file.state), newest, () => {});
  await file.handle.close();
  assert.ok((await readFile(path)).equals(whole));
});

test('a file that exists is not written over, and one that is no export is not touched', async () => {
  const path = join(folder, 'precious');
  const { newest } = await schemaVersions(database);
  for (const precious of [
    'precious',
    'precious\n',
    '{"line":"export"}\n',
    gzipSync('precious'),
    Buffer.from([0x1f, 0x8b]),
  ]) {
    await writeFile(path, precious);
    await assert.rejects(createExportFile(path, false), ExportRefused);
    if (precious.length > 2) await assert.rejects(reopenExportFile(path, false, newest), ExportRefused);
    assert.deepEqual(await readFile(path), Buffer.from(precious));
  }
  await rm(path);
  await assert.rejects(reopenExportFile(path, false, newest), ExportRefused);
});

test('an export can be read by its owner only', async () => {
  const path = join(folder, 'private');
  const file = await createExportFile(path, false);
  await file.handle.close();
  assert.equal((await stat(path)).mode & 0o777, 0o600);
});

test('an export does not go on from a copy of the database that it began with', async (t) => {
  const storage = await createStorage('embedded');
  assert.ok(storage !== null);
  const copy = await openLog(storage);
  t.after(async () => {
    await copy.close();
    await storage.remove();
  });
  const whole = await exported(database);
  await imported(copy, whole);
  const path = join(folder, 'elsewhere');
  await writeFile(path, whole.subarray(0, Math.floor(whole.length * 0.7)));
  const file = await reopenExportFile(path, false, (await schemaVersions(copy)).newest);
  t.after(() => file.handle.close());
  await requireSameSource(database, file);
  await assert.rejects(requireSameSource(copy, file), ExportRefused);
});
