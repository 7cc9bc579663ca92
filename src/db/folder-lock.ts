import { link, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { Server } from 'node:net';
import { join } from 'node:path';
import type { Clock } from '../clock.js';
import { identify, isAlive, sameFolder } from './folder-owner.js';
import type { Owner } from './folder-owner.js';
import { StorageError } from './database.js';

export interface FolderLock {
  /** Gives the folder away. Idempotent. */
  release(): Promise<void>;
}

export interface FolderLockOptions {
  readonly clock: Clock;
  /** The lock file was changed or removed by somebody else: the holder must stop using the folder at once. Called at most once. */
  readonly onLost: (reason: string) => void;
}

const watchMs = 1_000;

/**
 * Takes the folder for this process, or rejects with a message that names the owner. One process only: two engines on one folder
 * destroy it.
 *
 * Three things hold it: the file `lock`, which says who the owner is, so that a killed owner is recognised at once and a paused one is never
 * robbed; an abstract unix socket named after the folder's device and inode, which the kernel frees with the process and which decides
 * between two that start together; and the socket `lock.sock` in the folder, which decides across containers, where neither a process id
 * nor an abstract socket is visible. Age decides nothing.
 */
export async function lockFolder(dir: string, options: FolderLockOptions): Promise<FolderLock> {
  const { dev, ino } = await stat(dir, { bigint: true });
  const me = await identify(`${dev}-${ino}`);
  const file = join(dir, 'lock');
  const socketPath = join(dir, 'lock.sock');
  const sockets: Server[] = [];
  const closeSockets = (): void => sockets.splice(0).forEach((server) => server.close());
  try {
    if (process.platform === 'linux') {
      const held = await hold(`\0sluice-${dev}-${ino}`);
      if (held === 'taken') throw refusal(dir, file, await readOwner(file));
      if (held) sockets.push(held);
    }
    const text = `${JSON.stringify(me)}\n`;
    await writeLock(dir, file, text, me);
    if (me.bootId !== undefined) {
      // Whatever is left there belongs to a dead owner: the lock is ours.
      await rm(socketPath, { force: true });
      const held = await hold(socketPath);
      if (held && held !== 'taken') sockets.push(held);
    }
    const stopWatching = watch(file, text, options);
    return {
      async release() {
        if (stopWatching() && (await readText(file)) === text) await rm(file, { force: true });
        closeSockets();
      },
    };
  } catch (error) {
    closeSockets();
    throw error;
  }
}

/** Writes the lock file, over a dead owner's if need be. Of two that take over at once, one may return and then lose it: the watch tells it within a second. */
async function writeLock(dir: string, file: string, text: string, me: Owner): Promise<void> {
  const draft = `${file}.${process.pid}.${me.startTime ?? '0'}`;
  const handle = await open(draft, 'w', 0o600);
  await handle.writeFile(text);
  await handle.sync();
  await handle.close();
  try {
    const owner = await readOwner(file);
    if (owner === 'none') {
      // link() fails if somebody else was quicker; the file appears with its content.
      await link(draft, file).catch(async (error: NodeJS.ErrnoException) => {
        throw error.code === 'EEXIST' ? refusal(dir, file, await readOwner(file)) : error;
      });
    } else {
      const dead =
        owner !== 'unreadable' &&
        (!sameFolder(owner, me) || (await isAlive(owner, me, join(dir, 'lock.sock'))) === 'dead');
      if (!dead) throw refusal(dir, file, owner);
      await rename(draft, file);
    }
    if ((await readText(file)) !== text) throw refusal(dir, file, await readOwner(file));
  } finally {
    await rm(draft, { force: true });
  }
}

/** Listens on a unix socket, as long as the process lives; `undefined` where such a socket is not to be had. */
async function hold(path: string): Promise<Server | 'taken' | undefined> {
  const server = createServer((peer) => peer.destroy());
  return new Promise((resolve) => {
    server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'EADDRINUSE' ? 'taken' : undefined));
    server.listen({ path }, () => resolve(server.unref()));
  });
}

/** Looks at the file every second. Returns the end of it, which says whether the lock was still held. */
function watch(file: string, text: string, { clock, onLost }: FolderLockOptions): () => boolean {
  let held = true;
  let cancel: (() => void) | undefined;
  const look = async (): Promise<void> => {
    const now = await readText(file).catch(() => text);
    if (!held) return;
    if (now === text) {
      cancel = clock.after(watchMs, () => void look());
    } else {
      held = false;
      onLost(
        `${file} was ${now === undefined ? 'removed' : 'replaced'}: the data folder belongs to another process now`,
      );
    }
  };
  cancel = clock.after(watchMs, () => void look());
  return () => {
    cancel?.();
    const wasHeld = held;
    held = false;
    return wasHeld;
  };
}

async function readText(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

async function readOwner(file: string): Promise<Owner | 'none' | 'unreadable'> {
  const text = await readText(file);
  if (text === undefined) return 'none';
  try {
    const owner = JSON.parse(text) as Partial<Owner> | null;
    return typeof owner?.pid === 'number' && typeof owner.folder === 'string' ? (owner as Owner) : 'unreadable';
  } catch {
    return 'unreadable';
  }
}

function refusal(dir: string, file: string, owner: Owner | 'none' | 'unreadable'): StorageError {
  const who = typeof owner === 'string' ? 'another process' : `process ${owner.pid}`;
  return new StorageError(
    'unavailable',
    `the data folder ${dir} is in use by ${who} (${file}). Stop it or choose another folder with --data-dir. ` +
      `If that process runs in another container or on another machine, make sure there that it has ended, then remove ${file}`,
  );
}
