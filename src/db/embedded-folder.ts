import { chmod, mkdir, mkdtemp, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { StorageError } from './database.js';

const unfinishedPrefix = '.new-';

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

async function removeUnfinished(dataDir: string): Promise<void> {
  for (const name of await readdir(dataDir)) {
    if (name.startsWith(unfinishedPrefix)) await rm(join(dataDir, name), { recursive: true });
  }
}

async function syncTree(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    await (entry.isDirectory() ? syncTree(path) : syncPath(path));
  }
  await syncPath(folder);
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
