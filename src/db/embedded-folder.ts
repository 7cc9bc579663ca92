import { chmod, mkdir, mkdtemp, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { StorageError } from './database.js';

const unfinishedPrefix = '.new-';

/** Files at work at once; Node's own threads for files are 4 unless told otherwise. */
const lanes = 16;

/** Makes the data folder, for its owner only, if there is none. */
export async function ensureFolder(dataDir: string): Promise<void> {
  const first = await mkdir(dataDir, { recursive: true, mode: 0o700 });
  if (first === undefined) return;
  await chmod(dataDir, 0o700);
  for (let made = dataDir; made.length >= first.length; made = dirname(made)) await syncPath(dirname(made));
}

/**
 * The folder of the cluster, `<dataDir>/pg`, made by `create` if there is none. It is made under another name, synced to the last file, and
 * then renamed, so that a process killed at any moment leaves a whole cluster or none; leftovers of such a kill are removed. The caller
 * holds the folder's lock.
 */
export async function ensureCluster(dataDir: string, create: (folder: string) => Promise<void>): Promise<string> {
  const cluster = join(dataDir, 'pg');
  await removeUnfinished(dataDir);
  if (await exists(join(cluster, 'PG_VERSION'))) return cluster;
  if (await exists(cluster)) {
    throw new StorageError(
      'unavailable',
      `${cluster} exists but holds no database; move it away or choose another data folder`,
    );
  }
  const unfinished = await mkdtemp(join(dataDir, unfinishedPrefix));
  await create(unfinished);
  await syncTree(unfinished);
  await rename(unfinished, cluster);
  await syncPath(dataDir);
  return cluster;
}

/**
 * Removes what tells the engine that another one has the cluster open; the caller holds the folder's lock, so none has. A start that was cut short,
 * by a kill or a loss of power, may leave this file empty, and then the engine would never start again.
 */
export async function removeEngineLock(cluster: string): Promise<void> {
  await rm(join(cluster, 'postmaster.pid'), { force: true });
}

async function removeUnfinished(dataDir: string): Promise<void> {
  for (const name of await readdir(dataDir)) {
    if (name.startsWith(unfinishedPrefix)) await rm(join(dataDir, name), { recursive: true });
  }
}

/** Everything in the folder and the folder. Folders last, so that what one of them names is on disk before it. */
async function syncTree(folder: string): Promise<void> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = (wantsFolders: boolean): string[] =>
    entries
      .filter((entry) => entry.isDirectory() === wantsFolders)
      .map(({ parentPath, name }) => join(parentPath, name));
  await inParallel(paths(false), syncPath);
  await inParallel(paths(true), syncPath);
  await syncPath(folder);
}

/**
 * Does `work` for every item, a few at a time. File systems commit syncs that wait together at once: 370 files one after the other took 400
 * to 1,600 ms, so 70 to 120.
 */
export async function inParallel<Item>(items: readonly Item[], work: (item: Item) => Promise<void>): Promise<void> {
  const queue = items.values();
  const lane = async (): Promise<void> => {
    try {
      for (const item of queue) await work(item);
    } catch (error) {
      for (const _ of queue); // Takes the rest from the other lanes.
      throw error;
    }
  };
  // All have ended before this rejects: nobody writes to a folder that was given up.
  const ends = await Promise.allSettled(Array.from({ length: lanes }, lane));
  const failed = ends.find((end) => end.status === 'rejected');
  if (failed) throw failed.reason;
}

async function syncPath(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}
