import assert from 'node:assert/strict';
import fs from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it, mock } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { systemClock } from '../../src/clock.js';
import type { Scope } from '../../src/db/database.js';
import { archiveKey, pack, unpackArchive } from '../../src/db/embedded-archive.js';
import { ensureCluster } from '../../src/db/embedded-folder.js';
import { openEmbedded } from '../../src/db/embedded.js';
import { makeArchive } from '../../src/db/make-archive.js';
import { migrate } from '../../src/db/migrate.js';
import { cursorSecret } from '../../src/db/sql/secrets.js';
import type { EmbeddedOptions } from '../../src/db/embedded.js';

const owner: Scope = { role: 'owner' };
let root: string;
beforeEach(async () => {
  root = await fs.mkdtemp(join(tmpdir(), 'sluice-archive-'));
});
afterEach(() => fs.rm(root, { recursive: true, force: true }));

/** Every file below a folder with its content, and every folder. */
async function treeOf(folder: string): Promise<Map<string, string>> {
  const tree = new Map<string, string>();
  for (const entry of await fs.readdir(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const content = entry.isDirectory() ? 'a folder' : (await fs.readFile(path)).toString('base64');
    tree.set(path.slice(folder.length + 1), content);
  }
  return tree;
}

/** A small folder that looks like a cluster. */
async function createSmall(folder: string): Promise<void> {
  await fs.mkdir(join(folder, 'base', '5'), { recursive: true });
  await fs.mkdir(join(folder, 'empty'));
  await fs.writeFile(join(folder, 'PG_VERSION'), '18\n');
  await fs.writeFile(join(folder, 'base', '5', '1249'), Buffer.alloc(20_000, 7));
  await fs.writeFile(join(folder, 'base', '5', 'nothing'), '');
}

describe('the archive of a cluster', () => {
  let archive: string;
  beforeEach(async () => {
    const folder = join(root, 'packed');
    await fs.mkdir(folder);
    await createSmall(folder);
    archive = join(root, 'archive');
    await fs.writeFile(archive, await pack(folder, await archiveKey()));
  });

  /** What becomes of an unpacking into an empty folder. */
  async function unpack(): Promise<{ reason: string | undefined; tree: Map<string, string> }> {
    const folder = join(root, 'unpacked');
    await fs.mkdir(folder);
    const reason = await unpackArchive(folder, archive);
    return { reason, tree: await treeOf(folder) };
  }

  it('gives back every file and every folder, for their owner only', async () => {
    const { reason, tree } = await unpack();
    assert.equal(reason, undefined);
    assert.deepEqual(tree, await treeOf(join(root, 'packed')));
    for (const path of tree.keys()) {
      const { mode } = await fs.stat(join(root, 'unpacked', path));
      assert.equal(mode & 0o077, 0, path);
    }
  });

  it('is refused, and the folder left empty, when any byte of it has changed', async () => {
    const sound = await fs.readFile(archive);
    for (let at = 0; at < sound.length; at += 1 + Math.floor(sound.length / 60)) {
      const damaged = Buffer.from(sound);
      damaged[at] = (damaged[at] ?? 0) ^ 1;
      await fs.writeFile(archive, damaged);
      const { reason, tree } = await unpack();
      assert.match(String(reason), /is damaged|belongs to another build/, `byte ${at}`);
      assert.deepEqual(tree, new Map(), `byte ${at}`);
      await fs.rmdir(join(root, 'unpacked'));
    }
  });

  it('is refused, and the folder left empty, when its end is missing', async () => {
    for (const length of [(await fs.stat(archive)).size - 1, 100, 0]) {
      await fs.truncate(archive, length);
      const { reason, tree } = await unpack();
      assert.match(String(reason), /is damaged|belongs to another build/, `${length} bytes`);
      assert.deepEqual(tree, new Map());
      await fs.rmdir(join(root, 'unpacked'));
    }
  });

  it('is refused when it was made for another version of the engine', async () => {
    await fs.writeFile(archive, await pack(join(root, 'packed'), '0123456789abcdef'));
    assert.match(String((await unpack()).reason), /belongs to another build of the engine/);
  });

  it('may be missing, as in a build without it', async () => {
    await fs.rm(archive);
    assert.equal((await unpack()).reason, 'this build has no prepared database');
  });

  it('is not made again while there is one that fits', async () => {
    const { ino, mtimeMs } = await fs.stat(archive);
    await makeArchive(archive);
    const now = await fs.stat(archive);
    assert.deepEqual([now.ino, now.mtimeMs], [ino, mtimeMs]);
  });
});

describe('the making of a data folder', () => {
  let dataDir: string;
  let whole: Map<string, string>;
  beforeEach(async () => {
    dataDir = join(root, 'data');
    await fs.mkdir(dataDir);
    const example = join(root, 'example');
    await fs.mkdir(example);
    await createSmall(example);
    whole = await treeOf(example);
  });
  afterEach(() => {
    mock.restoreAll();
    syncBuiltinESMExports();
  });

  /** Calls `onCall` ahead of everything that is done to files from now on, with the name of the call and the path. */
  function intercept(onCall: (call: string, path: string) => void): void {
    const real = { ...fs };
    const handles = (path: string, handle: FileHandle): FileHandle => {
      const sync = handle.sync.bind(handle);
      handle.sync = async () => {
        onCall('sync', path);
        await sync();
      };
      return handle;
    };
    for (const name of ['mkdir', 'mkdtemp', 'readdir', 'rename', 'rm', 'stat', 'writeFile'] as const) {
      mock.method(fs, name, async (path: string, ...rest: unknown[]) => {
        onCall(name, path);
        return (real[name] as (...all: unknown[]) => Promise<unknown>)(path, ...rest);
      });
    }
    mock.method(fs, 'open', async (path: string, flags: string) => {
      onCall('open', path);
      return handles(path, await real.open(path, flags));
    });
    syncBuiltinESMExports();
  }

  it('leaves a whole cluster or none wherever it ends, and works when it is repeated', async () => {
    const archive = join(root, 'archive');
    await fs.writeFile(archive, await pack(join(root, 'example'), await archiveKey()));
    const unpack = async (folder: string): Promise<void> =>
      assert.equal(await unpackArchive(folder, archive), undefined);
    let steps = 0;
    let last = Infinity;
    intercept((call, path) => {
      // What a killed process would have done next is never done.
      if (++steps > last) throw new Error(`ended before ${call} of ${path}`);
    });
    await ensureCluster(dataDir, unpack);
    const stepsOfAll = steps;
    assert.ok(stepsOfAll > 20, `${stepsOfAll} steps`);
    const seen = new Set<boolean>();
    for (let count = 0; count < stepsOfAll; count++) {
      last = Infinity;
      await fs.rm(join(dataDir, 'pg'), { recursive: true, force: true });
      steps = 0;
      last = count;
      await assert.rejects(ensureCluster(dataDir, unpack), /ended before/, `${count} steps`);
      last = Infinity;
      const left = await fs.readdir(dataDir);
      seen.add(left.includes('pg'));
      if (left.includes('pg')) assert.deepEqual(await treeOf(join(dataDir, 'pg')), whole, `${count} steps`);
      const cluster = await ensureCluster(dataDir, unpack);
      assert.deepEqual(await treeOf(cluster), whole, `${count} steps`);
      assert.deepEqual(await fs.readdir(dataDir), ['pg'], `${count} steps`);
    }
    assert.deepEqual(seen, new Set([false, true]), 'one of the two outcomes never came');
  });

  it('has every file and folder on disk before the name by which it counts, and then the name', async () => {
    const synced = new Set<string>();
    let unsynced: string[] | undefined;
    let unfinished = '';
    let paths: string[] = [];
    intercept((call, path) => {
      if (call === 'sync') synced.add(path);
      if (call === 'rename') unsynced = paths.filter((each) => !synced.has(each));
    });
    await ensureCluster(dataDir, async (folder) => {
      await createSmall(folder);
      unfinished = folder;
      paths = [folder, ...[...whole.keys()].map((path) => join(folder, path))];
      synced.clear();
    });
    assert.equal(dirname(unfinished), dataDir);
    assert.deepEqual(unsynced, []);
    assert.ok(synced.has(dataDir));
  });

  it('fails, and makes no cluster, when a file cannot be synced', async () => {
    intercept((call, path) => {
      if (call === 'sync' && path.endsWith('1249')) throw new Error('EIO');
    });
    await assert.rejects(ensureCluster(dataDir, createSmall), /EIO/);
    assert.ok(!(await fs.readdir(dataDir)).includes('pg'));
  });
});

describe('a data folder from the archive of the build', () => {
  let made: string;
  let unpacked: string;
  const said: string[] = [];
  before(async () => {
    await makeArchive();
    unpacked = await fs.mkdtemp(join(tmpdir(), 'sluice-unpacked-'));
    made = await fs.mkdtemp(join(tmpdir(), 'sluice-made-'));
    const openDamaged = await openOfDamagedBuild(join(made, 'build'));
    await (await openDamaged(options(made, said))).close();
  });
  after(() => Promise.all([made, unpacked].map((folder) => fs.rm(folder, { recursive: true, force: true }))));

  it('is made by the engine, which says why, when the archive is damaged', () => {
    assert.equal(said.length, 1);
    assert.match(String(said[0]), /empty-cluster\.gz is damaged: its checksum does not match: making one/);
  });

  it('is used by a first start, and is what the engine would have made', async () => {
    const [ourProgress, theirProgress]: [string[], string[]] = [[], []];
    const [ours, theirs] = await Promise.all([
      describeDatabase(unpacked, ourProgress),
      describeDatabase(made, theirProgress),
    ]);
    assert.deepEqual(ourProgress, [], 'the engine was asked to make a cluster, or a migration was left to do');
    assert.ok(theirProgress.length > 0);
    assert.deepEqual(ours, theirs);
    assert.deepEqual(ours['databases'], ['postgres UTF8']);
    const [ourTree, theirTree] = await Promise.all([unpacked, made].map((folder) => treeOf(join(folder, 'pg'))));
    assert.deepEqual(new Set(ourTree?.keys()), new Set(theirTree?.keys()));
  });

  it('holds no secret and no row of anybody', async () => {
    const database = await openEmbedded(options(unpacked, []));
    try {
      const list = async <Row>(name: string, text: string) => (await database.query<Row>(owner, { name, text })).rows;
      const tables = await list<{ relname: string }>(
        'own_tables',
        `SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND oid >= 16384 ORDER BY relname`,
      );
      assert.ok(tables.length > 8);
      const filled = [];
      for (const { relname } of tables) {
        if ((await list(`any_${relname}`, `SELECT FROM ${relname} LIMIT 1`)).length > 0) filled.push(relname);
      }
      assert.deepEqual(filled, ['schema_migrations']);
    } finally {
      await database.close();
    }
  });

  it('gets a secret of its own at its first start, and keeps it', async () => {
    const secrets: Buffer[] = [];
    for (const dataDir of [unpacked, await fs.mkdtemp(join(root, 'another-')), unpacked]) {
      const database = await openEmbedded(options(dataDir, []));
      try {
        secrets.push(...(await Promise.all([cursorSecret(database), cursorSecret(database)])));
      } finally {
        await database.close();
      }
    }
    const [first, second] = secrets.filter((_, index) => index % 2 === 0);
    assert.deepEqual(secrets, [first, first, second, second, first, first]);
    assert.notDeepEqual(first, second);
    assert.equal(first?.length, 32);
  });

  function options(dataDir: string, progress: string[]): EmbeddedOptions {
    return {
      dataDir,
      clock: systemClock,
      onLog: () => {},
      onProgress: (text) => void progress.push(text),
      onLockLost: (reason) => assert.fail(reason),
    };
  }

  /** `openEmbedded` of a copy of this build, in whose archive a bit has changed. */
  async function openOfDamagedBuild(build: string): Promise<typeof openEmbedded> {
    const modules = fileURLToPath(import.meta.resolve('@electric-sql/pglite')).split('/@electric-sql/')[0] ?? '';
    await fs.cp(fileURLToPath(new URL('../../src', import.meta.url)), join(build, 'dist', 'src'), { recursive: true });
    await fs.symlink(fileURLToPath(new URL('../../../migrations', import.meta.url)), join(build, 'migrations'));
    await fs.writeFile(join(build, 'package.json'), '{"type":"module"}');
    await fs.symlink(modules, join(build, 'node_modules'));
    const archive = join(build, 'dist', 'src', 'db', 'empty-cluster.gz');
    const bytes = await fs.readFile(archive);
    bytes[1_000_000] = (bytes[1_000_000] ?? 0) ^ 1;
    await fs.writeFile(archive, bytes);
    const module = pathToFileURL(join(build, 'dist', 'src', 'db', 'embedded.js')).href;
    return ((await import(module)) as { openEmbedded: typeof openEmbedded }).openEmbedded;
  }

  /** All that a cluster's making decides: databases with encoding and collation, roles, settings, extensions, the catalog's objects. */
  async function describeDatabase(dataDir: string, progress: string[]): Promise<Record<string, unknown>> {
    const migrated = await openEmbedded(options(dataDir, progress));
    await migrate(migrated, (text) => void progress.push(text));
    await migrated.close();
    // In a session of its own: what a migration loads into its session is listed among the settings.
    const database = await openEmbedded(options(dataDir, progress));
    const list = async (name: string, text: string): Promise<unknown[]> =>
      (await database.query<{ line: string }>(owner, { name, text })).rows.map(({ line }) => line);
    try {
      return {
        databases: await list(
          'databases',
          'SELECT datname || $$ $$ || pg_encoding_to_char(encoding) AS line FROM pg_database',
        ),
        locale: await list('locale', 'SELECT to_jsonb(d) AS line FROM pg_database d'),
        collations: await list(
          'collations',
          'SELECT to_jsonb(c) AS line FROM pg_collation c ORDER BY collname, collencoding',
        ),
        roles: await list('roles', 'SELECT to_jsonb(r) AS line FROM pg_roles r ORDER BY rolname'),
        extensions: await list('extensions', 'SELECT extname || extversion AS line FROM pg_extension ORDER BY 1'),
        settings: await list(
          'settings',
          `SELECT jsonb_build_array(name, setting) AS line FROM pg_settings WHERE setting NOT LIKE '%/%' ORDER BY name`,
        ),
        objects: await list(
          'objects',
          'SELECT count(*)::text AS line FROM pg_class UNION ALL SELECT count(*)::text FROM pg_proc',
        ),
      };
    } finally {
      await database.close();
    }
  }
});
