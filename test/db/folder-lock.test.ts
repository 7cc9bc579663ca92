import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { systemClock } from '../../src/clock.js';
import type { Clock } from '../../src/clock.js';
import { StorageError } from '../../src/db/database.js';
import { lockFolder } from '../../src/db/folder-lock.js';
import type { FolderLock } from '../../src/db/folder-lock.js';
import { isAlive } from '../../src/db/folder-owner.js';
import type { Owner } from '../../src/db/folder-owner.js';

const linuxOnly = process.platform === 'linux' ? {} : { skip: 'needs /proc' };
const inUse = (error: unknown): boolean => error instanceof StorageError && /is in use by/.test(error.message);

async function end(child: ChildProcess): Promise<void> {
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

describe('the lock of a data folder', linuxOnly, () => {
  let dir: string;
  let children: ChildProcess[];
  let locks: FolderLock[];

  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'sluice-lock-'));
    children = [];
    locks = [];
  });
  afterEach(async () => {
    for (const child of children) child.kill('SIGKILL');
    await Promise.all(locks.map((lock) => lock.release()));
    await rm(dir, { recursive: true, force: true });
  });

  const take = async (folder = dir): Promise<FolderLock> => {
    const lock = await lockFolder(folder, { clock: systemClock, onLost: () => {} });
    locks.push(lock);
    return lock;
  };

  /** Another process that tries to take the folder. Resolves with it and with what came of that. */
  const takeElsewhere = async (): Promise<{ child: ChildProcess; outcome: string }> => {
    const child = fork(new URL('../support/lock-holder.js', import.meta.url), [dir]);
    children.push(child);
    const [outcome] = (await once(child, 'message')) as [string];
    return { child, outcome };
  };

  const fileOf = async (folder = dir): Promise<Owner> =>
    JSON.parse(await readFile(join(folder, 'lock'), 'utf8')) as Owner;

  it('is refused while another process has it, with the owner and what to do', async () => {
    const { child } = await takeElsewhere();
    await assert.rejects(take(), (error) => {
      assert.ok(inUse(error));
      const { message } = error as Error;
      for (const part of [dir, `process ${child.pid}`, '--data-dir', join(dir, 'lock')])
        assert.ok(message.includes(part), message);
      return true;
    });
  });

  it('is refused while this same process has it', async () => {
    await take();
    await assert.rejects(take(), inUse);
  });

  it('is had by exactly one of many that start together', async () => {
    const outcomes = await Promise.all(Array.from({ length: 4 }, async () => (await takeElsewhere()).outcome));
    assert.equal(outcomes.filter((outcome) => outcome === 'taken').length, 1, outcomes.join('\n'));
  });

  it('is had by exactly one of many that start together after the owner was killed', async () => {
    await end((await takeElsewhere()).child);
    const outcomes = await Promise.all(Array.from({ length: 4 }, async () => (await takeElsewhere()).outcome));
    assert.equal(outcomes.filter((outcome) => outcome === 'taken').length, 1, outcomes.join('\n'));
  });

  it('is taken over at once from an owner that was killed', async () => {
    const { child } = await takeElsewhere();
    await end(child);
    await take();
    assert.equal((await fileOf()).pid, process.pid);
  });

  it('is not taken from an owner that is stopped, however long', async () => {
    const { child } = await takeElsewhere();
    child.kill('SIGSTOP');
    await assert.rejects(take(), inUse);
  });

  it('is taken from an owner of before the last boot, whose process id may live again', async () => {
    await writeFile(join(dir, 'lock'), JSON.stringify({ ...(await me()), bootId: 'an earlier one' }));
    await take();
  });

  it('is taken from an owner whose process id belongs to another process now', async () => {
    await writeFile(join(dir, 'lock'), JSON.stringify({ ...(await me()), startTime: '1' }));
    await take();
  });

  it('is refused when the owner is in another pid namespace and nothing tells whether it lives', async () => {
    await writeFile(join(dir, 'lock'), JSON.stringify({ ...(await me()), pidNamespace: 'pid:[1]' }));
    await assert.rejects(take(), (error) => inUse(error) && /another container/.test((error as Error).message));
  });

  it('is decided by the socket in the folder when the owner is in another pid namespace', async () => {
    const { child } = await takeElsewhere();
    const here = await fileOf();
    const alive = () => isAlive({ ...here, pidNamespace: 'pid:[1]' }, here, join(dir, 'lock.sock'));
    assert.equal(await alive(), 'alive');
    child.kill('SIGSTOP');
    assert.equal(await alive(), 'alive');
    await end(child);
    assert.equal(await alive(), 'dead');
  });

  it('is refused when its file cannot be understood', async () => {
    await writeFile(join(dir, 'lock'), 'half a fi');
    await assert.rejects(take(), inUse);
  });

  it('does not count in a copy of the folder', async () => {
    await takeElsewhere();
    const copy = `${dir}-copy`;
    try {
      await cp(dir, copy, { recursive: true, filter: (path) => !path.endsWith('.sock') });
      await take(copy);
      assert.equal((await fileOf(copy)).pid, process.pid);
    } finally {
      await rm(copy, { recursive: true, force: true });
    }
  });

  it('is reported lost when its file is replaced, and leaves the new file alone', async () => {
    const { lock, lost } = await takeWatched();
    await writeFile(join(dir, 'lock'), 'mine now');
    assert.match(await lost(), /replaced/);
    await lock.release();
    assert.equal(await readFile(join(dir, 'lock'), 'utf8'), 'mine now');
  });

  it('is reported lost when its file is removed', async () => {
    const { lost } = await takeWatched();
    await rm(join(dir, 'lock'));
    assert.match(await lost(), /removed/);
  });

  it('is free again after its release, and leaves no file', async () => {
    const lock = await take();
    await lock.release();
    await assert.rejects(stat(join(dir, 'lock')), { code: 'ENOENT' });
    await lock.release();
    assert.equal((await takeElsewhere()).outcome, 'taken');
  });

  /** Takes the folder under a clock whose second passes when `lost` is called, which resolves with what the lock reports then. */
  async function takeWatched(): Promise<{ lock: FolderLock; lost: () => Promise<string> }> {
    let passSecond: () => void = () => {};
    let report: (reason: string) => void = () => {};
    const clock: Clock = {
      ...systemClock,
      after(delayMs, fire) {
        assert.equal(delayMs, 1_000);
        passSecond = fire;
        return () => {};
      },
    };
    const lock = await lockFolder(dir, { clock, onLost: (reason) => report(reason) });
    locks.push(lock);
    return {
      lock,
      lost: () =>
        new Promise((resolve) => {
          report = resolve;
          passSecond();
        }),
    };
  }

  /** This process as the owner of the folder. */
  async function me(): Promise<Owner> {
    const lock = await lockFolder(dir, { clock: systemClock, onLost: () => {} }).catch(() => undefined);
    if (!lock) return { ...(await fileOf()), pid: process.pid };
    const owner = await fileOf();
    await lock.release();
    return owner;
  }
});
