import { open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../clock.js';
import type { ClaimedFolder } from './folder-claim.js';
import { isOfThisFolder, lifeOf } from './folder-owner.js';
import type { Owner, Viewpoint } from './folder-owner.js';
import { probeLife } from './folder-socket.js';

export const lockName = 'lock';
/** Of holders of versions before claims. */
const oldSocketName = 'lock.sock';

const looksPauseMs = 20;
const claimTriesMax = 3;

/** The files of a contender. The socket stays under its name when the claim becomes the lock. */
const fileName = /^lock\.([0-9a-f]{16})\.(?:claim|sock|draft)$/;
export const nameOf = (id: string, kind: 'claim' | 'sock' | 'draft'): string => `lock.${id}.${kind}`;

/** The lock files of one data folder, as `contend` wants them. */
export class LockFiles implements ClaimedFolder<Owner | 'unreadable'> {
  readonly #dir: string;
  readonly #view: Viewpoint;
  readonly #id: string;
  readonly #text: string;
  readonly #clock: Clock;

  /** `text` is what the contender's files say. Its socket, where such are to be had, is served already. */
  constructor(dir: string, view: Viewpoint, { id, text, clock }: { id: string; text: string; clock: Clock }) {
    this.#dir = dir;
    this.#view = view;
    this.#id = id;
    this.#text = text;
    this.#clock = clock;
  }

  async claim(): Promise<void> {
    const draft = this.#path(nameOf(this.#id, 'draft'));
    for (let tries = 1; ; tries++) {
      const handle = await open(draft, 'w', 0o600);
      try {
        await handle.writeFile(this.#text);
        // After a loss of power it is there with its text, or not at all.
        await handle.sync();
      } finally {
        await handle.close();
      }
      try {
        await rename(draft, this.#path(nameOf(this.#id, 'claim')));
        return;
      } catch (error) {
        // Where there are no sockets, a new holder takes a draft for a dead one's.
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || tries === claimTriesMax) throw error;
      }
    }
  }

  async claims(): Promise<string[]> {
    return (await readdir(this.#dir)).flatMap((name) => {
      const id = fileName.exec(name)?.[1];
      return id !== undefined && name === nameOf(id, 'claim') ? [id] : [];
    });
  }

  async read(id: string): Promise<Owner | 'unreadable' | undefined> {
    const owner = await this.#readOwner(id === lockName ? lockName : nameOf(id, 'claim'));
    if (owner === undefined || owner === 'unreadable') return owner;
    if (!isOfThisFolder(owner, this.#view)) return undefined;
    const socketName = owner.id === undefined ? oldSocketName : nameOf(owner.id, 'sock');
    return (await lifeOf(owner, this.#view, () => probeLife(this.#dir, socketName))) === 'dead' ? undefined : owner;
  }

  async promote(): Promise<void> {
    // Versions before claims would take a dead owner's socket for ours.
    await rm(this.#path(oldSocketName), { force: true });
    await rename(this.#path(nameOf(this.#id, 'claim')), this.#path(lockName));
  }

  async withdraw(): Promise<void> {
    await rm(this.#path(nameOf(this.#id, 'claim')), { force: true });
    await rm(this.#path(nameOf(this.#id, 'draft')), { force: true });
  }

  pause(): Promise<void> {
    return new Promise((resolve) => {
      this.#clock.after(looksPauseMs, resolve);
    });
  }

  /** Removes what was left behind by contenders and holders that were killed, and by those of the folder of which this one is a copy. For the holder. */
  async removeRemains(): Promise<void> {
    const names = (await readdir(this.#dir)).filter((name) => fileName.test(name));
    for (const id of new Set(names.map((name) => fileName.exec(name)?.[1] ?? ''))) {
      if (id === this.#id || (await this.#mayLive(id, names))) continue;
      for (const kind of ['claim', 'draft', 'sock'] as const) await rm(this.#path(nameOf(id, kind)), { force: true });
    }
  }

  async #mayLive(id: string, names: readonly string[]): Promise<boolean> {
    if (names.includes(nameOf(id, 'claim'))) return (await this.read(id)) !== undefined;
    return names.includes(nameOf(id, 'sock')) && (await probeLife(this.#dir, nameOf(id, 'sock'))) !== 'dead';
  }

  /** Who is about to hold the folder, or does. */
  async anyOwner(): Promise<Owner | 'unreadable' | undefined> {
    for (const id of [lockName, ...(await this.claims())]) {
      const owner = id === this.#id ? undefined : await this.read(id);
      if (owner !== undefined) return owner;
    }
    return undefined;
  }

  async #readOwner(name: string): Promise<Owner | 'unreadable' | undefined> {
    const text = await readText(this.#path(name));
    if (text === undefined) return undefined;
    try {
      const owner = JSON.parse(text) as Partial<Owner> | null;
      return typeof owner?.pid === 'number' && typeof owner.folder === 'string' ? (owner as Owner) : 'unreadable';
    } catch {
      return 'unreadable';
    }
  }

  #path(name: string): string {
    return join(this.#dir, name);
  }
}

/** A file's text, `undefined` if there is none. */
export async function readText(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
