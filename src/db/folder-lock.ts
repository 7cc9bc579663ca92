import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import type { Server } from 'node:net';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Clock } from '../clock.js';
import { StorageError } from './database.js';
import { contend } from './folder-claim.js';
import { lockName, LockFiles, nameOf, readText } from './folder-lock-files.js';
import { identify } from './folder-owner.js';
import type { Owner } from './folder-owner.js';
import { serveAbstract, serveLife } from './folder-socket.js';
import type { LifeSocket } from './folder-socket.js';

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

/** How often a contender looks for others that start at the same moment, 20 ms apart. */
const looksMax = 50;

/**
 * Takes the folder for this process, or rejects with a message that names the owner. One process only: two engines on one folder
 * destroy it.
 *
 * Three things hold it: the file `lock`, which says who the owner is, so that a killed owner is recognised at once and a paused one is never
 * robbed, and which is taken as `folder-claim.ts` says; an abstract unix socket named after the folder's device and inode, which
 * the kernel frees with the process and which settles most starts at the same moment; and a socket in the folder, which says across
 * containers whether the owner lives. Age decides nothing.
 */
export async function lockFolder(dir: string, { clock, onLost }: FolderLockOptions): Promise<FolderLock> {
  const id = randomBytes(8).toString('hex');
  const view = await identify(dir, id);
  const text = `${JSON.stringify(view.me)}\n`;
  let abstract: Server | 'taken' | undefined;
  let socket: LifeSocket | undefined;
  const closeSockets = async (): Promise<void> => {
    if (abstract !== 'taken') abstract?.close();
    await socket?.close();
  };
  try {
    if (view.me.bootId !== undefined) {
      abstract = await serveAbstract(`sluice-${view.me.folder}`);
      if (abstract !== 'taken') socket = await serveLife(dir, nameOf(id, 'sock'));
    }
    const files = new LockFiles(dir, view, { id, text, clock });
    if (abstract === 'taken') throw refusal(dir, lockName, await firstOwner(files));
    const rival = await contend(files, id, looksMax);
    if (rival) throw refusal(dir, rival.id === lockName ? lockName : nameOf(rival.id, 'claim'), rival.owner);
    await files.removeRemains();
  } catch (error) {
    await closeSockets();
    throw error;
  }
  const file = join(dir, lockName);
  const stopWatching = watch(file, text, clock, onLost);
  const release = async (): Promise<void> => {
    if (stopWatching() && (await readText(file)) === text) await rm(file, { force: true });
    await closeSockets();
  };
  let released: Promise<void> | undefined;
  return { release: () => (released ??= release()) };
}

/** The owner that holds the abstract socket may not have written its name yet. */
async function firstOwner(files: LockFiles): Promise<Owner | 'unreadable' | undefined> {
  for (let look = 1; look < looksMax; look++) {
    const owner = await files.anyOwner();
    if (owner !== undefined) return owner;
    await files.pause();
  }
  return undefined;
}

/** Looks at the file every second. Returns the end of it, which says whether the lock was still held. */
function watch(file: string, text: string, clock: Clock, onLost: (reason: string) => void): () => boolean {
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

function refusal(dir: string, name: string, owner: Owner | 'unreadable' | undefined): StorageError {
  const file = join(dir, name);
  const who = typeof owner === 'object' ? `process ${owner.pid}${placeOf(owner)}` : 'another process';
  return new StorageError(
    'unavailable',
    `the data folder ${dir} is in use by ${who} (${file}). Stop it or choose another folder with --data-dir. ` +
      `If that process runs in another container or on another machine, make sure there that it has ended, then remove ${file}`,
  );
}

function placeOf({ host }: Owner): string {
  return host === undefined || host === hostname() ? '' : ` on ${host}`;
}
