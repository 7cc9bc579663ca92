import assert from 'node:assert/strict';
import { execFileSync, fork, spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../../src/clock.js';
import type { Clock } from '../../src/clock.js';
import { StorageError } from '../../src/db/database.js';
import { lockFolder } from '../../src/db/folder-lock.js';
import type { FolderLock } from '../../src/db/folder-lock.js';
import { identify, isOfThisFolder, lifeOf } from '../../src/db/folder-owner.js';
import type { Owner } from '../../src/db/folder-owner.js';

const holder = fileURLToPath(new URL('../support/lock-holder.js', import.meta.url));
const linuxOnly = process.platform === 'linux' ? {} : { skip: 'needs /proc' };
const rounds = process.env['SLUICE_TEST_SOAK'] === '1' ? 1_000 : 40;

const apart = ['--pid', '--net', '--fork', '--mount-proc', '--kill-child'];
const canBeApart = process.platform === 'linux' && spawnSync('unshare', [...apart, 'true']).status === 0;
const needsNamespaces = canBeApart
  ? {}
  : { skip: 'NOT TESTED: two containers on one folder; needs root and unshare(1) of util-linux' };

const inUse = (error: unknown): boolean => error instanceof StorageError && /is in use by/.test(error.message);

/** What a lock holder answers to an order. */
async function tell(child: ChildProcess, order: 'take' | 'release'): Promise<string> {
  const answered = once(child, 'message') as Promise<[string]>;
  child.send(order);
  return (await answered)[0];
}

async function end(child: ChildProcess): Promise<void> {
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

/** Ends a process in namespaces of its own. When `unshare` is gone, so is it; the other way round it would live on for a moment. */
async function endApart({ child, pid }: { readonly child: ChildProcess; readonly pid: number }): Promise<void> {
  const gone = once(child, 'exit');
  process.kill(pid, 'SIGKILL');
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
    for (const child of children) if (child.exitCode === null && child.signalCode === null) await end(child);
    await Promise.all(locks.map((lock) => lock.release()));
    await rm(dir, { recursive: true, force: true });
  });

  const take = async (folder = dir): Promise<FolderLock> => {
    const lock = await lockFolder(folder, { clock: systemClock, onLost: () => {} });
    locks.push(lock);
    return lock;
  };

  /** Another process, told to take the folder. Resolves with it and with what came of that. */
  const takeElsewhere = async (): Promise<{ child: ChildProcess; outcome: string }> => {
    const child = fork(holder, [dir]);
    children.push(child);
    return { child, outcome: await tell(child, 'take') };
  };

  /** The same in pid and network namespaces of its own, as in another container. `pid` is that seen from here. */
  const takeApart = async (): Promise<{ child: ChildProcess; outcome: string; pid: number }> => {
    const child = spawn('unshare', [...apart, process.execPath, holder, dir], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    children.push(child);
    const outcome = await tell(child, 'take');
    const inner = await readFile(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8');
    return { child, outcome, pid: Number(inner) };
  };

  const lockFiles = async (folder = dir): Promise<string[]> =>
    (await readdir(folder)).map((name) => name.replace(/[0-9a-f]{16}/, '<id>')).toSorted();

  /** The files of an owner that was killed, as seen from every namespace. */
  const leaveDeadOwner = async (owner: Owner): Promise<void> => {
    await leaveSocket(join(dir, 'lock.00000000000000aa.sock'));
    await writeFile(join(dir, 'lock'), JSON.stringify({ ...owner, id: '00000000000000aa', startTime: '1' }));
  };

  /** All take the folder at the same moment, many times over: of one that was killed, and of nobody. */
  const race = async (all: readonly ChildProcess[]): Promise<void> => {
    const owner = await me();
    for (let round = 0; round < rounds; round++) {
      if (round % 2 === 0) await leaveDeadOwner(owner);
      const outcomes = await Promise.all(all.map((child) => tell(child, 'take')));
      assert.equal(outcomes.filter((outcome) => outcome === 'taken').length, 1, outcomes.join('\n'));
      for (const outcome of outcomes)
        if (outcome !== 'taken') assert.match(outcome, /is in use by process \d+/, `round ${round}`);
      await Promise.all(all.map((child) => tell(child, 'release')));
    }
    assert.deepEqual(await readdir(dir), [], 'somebody left something behind');
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

  it('is had by exactly one of many that start together, and the others are told by whom', async () => {
    const outcomes = await Promise.all(Array.from({ length: 4 }, async () => (await takeElsewhere()).outcome));
    assert.equal(outcomes.filter((outcome) => outcome === 'taken').length, 1, outcomes.join('\n'));
    const owner = (await fileOf()).pid;
    for (const outcome of outcomes) if (outcome !== 'taken') assert.ok(outcome.includes(`process ${owner} `), outcome);
  });

  it('is had by exactly one of many that want it at the same moment, of a killed owner or of nobody', async () => {
    const all = await Promise.all([takeElsewhere(), takeElsewhere(), takeElsewhere()]);
    await Promise.all(all.map(({ child }) => tell(child, 'release')));
    await race(all.map(({ child }) => child));
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

  describe('between containers', needsNamespaces, () => {
    it('is refused while its owner lives, stopped or not, and had as soon as the owner is killed', async () => {
      const owner = await takeApart();
      assert.equal(owner.outcome, 'taken');
      await assert.rejects(take(), inUse);
      process.kill(owner.pid, 'SIGSTOP');
      await assert.rejects(take(), inUse);
      assert.match((await takeApart()).outcome, /in use by process/);
      await endApart(owner);
      await take();
      assert.equal((await fileOf()).pid, process.pid);
      assert.deepEqual(await lockFiles(), ['lock', 'lock.<id>.sock']);
    });

    it('is had by exactly one of many that want it at the same moment, of a killed owner or of nobody', async () => {
      const all = await Promise.all([takeApart(), takeApart(), takeElsewhere()]);
      await Promise.all(all.map(({ child }) => tell(child, 'release')));
      await race(all.map(({ child }) => child));
    });

    it('is told by its socket in a folder whose path is too long for one', async () => {
      dir = join(dir, 'x'.repeat(150));
      await mkdir(dir);
      const owner = await takeApart();
      assert.equal(owner.outcome, 'taken');
      await assert.rejects(take(), inUse);
      await endApart(owner);
      await take();
    });
  });

  it('is refused by a killed contender of another container only if nothing tells that it was killed', async () => {
    const contender = { ...(await me()), id: '00000000000000aa', pidNamespace: 'pid:[1]' };
    const claim = join(dir, 'lock.00000000000000aa.claim');
    await writeFile(claim, JSON.stringify(contender));
    await assert.rejects(take(), (error) => inUse(error) && (error as Error).message.includes(claim));
    await leaveSocket(join(dir, 'lock.00000000000000aa.sock'));
    await take();
    assert.deepEqual(await lockFiles(), ['lock', 'lock.<id>.sock']);
  });

  it('is refused when its owner runs on another machine, if it runs, and says which', async () => {
    const owner = { ...(await me()), bootId: 'another', machine: '0123456789abcdef', host: 'another-host' };
    await writeFile(join(dir, 'lock'), JSON.stringify(owner));
    const { me: here } = await identify(dir, 'x');
    // Where this machine has no id of its own, a local disk's other boot is an earlier one.
    if (here.machine === undefined) return;
    await assert.rejects(take(), (error) => {
      assert.ok(inUse(error));
      assert.match((error as Error).message, /process \d+ on another-host .*on another machine, make sure there/);
      return true;
    });
  });

  it('tells an earlier boot of this machine from another machine, also where several machines have the folder', async () => {
    const unasked = (): never => assert.fail('no socket tells anything about another boot');
    const here = { pid: 1, folder: '40-7', host: 'here', machine: 'm1', bootId: 'now', pidNamespace: 'pid:[1]' };
    const nameless = { pid: 1, folder: '40-7', host: 'here', bootId: 'now' };
    const life = (owner: Owner, isShared: boolean, view: Owner = here): Promise<string> =>
      lifeOf({ ...owner, bootId: 'another' }, { me: view, isShared }, unasked);
    assert.equal(await life(here, false), 'dead');
    assert.equal(await life(here, true), 'dead');
    assert.equal(await life({ ...here, machine: 'm2' }, false), 'unknown');
    assert.equal(await life({ ...here, machine: 'm2' }, true), 'unknown');
    // Machines made from one image may have one id, containers have none.
    assert.equal(await life({ ...here, host: 'there' }, true), 'unknown');
    assert.equal(await life(nameless, true, nameless), 'unknown');
    assert.equal(await life(nameless, false, nameless), 'dead');
    // The number of its device is each machine's own.
    assert.ok(isOfThisFolder({ ...here, folder: '99-7' }, { me: here, isShared: true }));
    assert.ok(!isOfThisFolder({ ...here, folder: '99-7' }, { me: here, isShared: false }));
  });

  it('is respected when a version without claims holds it, and taken over from one that was killed', async () => {
    const { id: _, host: __, machine: ___, ...old } = await me();
    await writeFile(
      join(dir, 'lock'),
      JSON.stringify({ ...old, pid: process.ppid, startTime: await startOf(process.ppid) }),
    );
    await assert.rejects(
      take(),
      (error) => inUse(error) && (error as Error).message.includes(`process ${process.ppid} `),
    );
    const elsewhere = { ...old, pidNamespace: 'pid:[1]' };
    await writeFile(join(dir, 'lock'), JSON.stringify(elsewhere));
    await assert.rejects(take(), inUse);
    await leaveSocket(join(dir, 'lock.sock'));
    await take();
    assert.deepEqual(await lockFiles(), ['lock', 'lock.<id>.sock']);
  });

  it('is refused when its file cannot be understood', async () => {
    await writeFile(join(dir, 'lock'), 'half a fi');
    await assert.rejects(take(), inUse);
  });

  it('does not count in a copy of the folder, which is had without disturbing the original', async () => {
    const { child } = await takeElsewhere();
    const copy = `${dir}-copy`;
    try {
      for (const life of ['live', 'dead']) {
        execFileSync('cp', ['-r', dir, copy]);
        assert.deepEqual(await lockFiles(copy), ['lock', 'lock.<id>.sock']);
        const original = await readFile(join(dir, 'lock'), 'utf8');
        const lock = await take(copy);
        assert.equal((await fileOf(copy)).pid, process.pid);
        assert.equal(await readFile(join(dir, 'lock'), 'utf8'), original);
        if (life === 'live') assert.match((await takeElsewhere()).outcome, /in use by/);
        await lock.release();
        await rm(copy, { recursive: true });
        if (life === 'live') await end(child);
      }
      await take();
    } finally {
      await rm(copy, { recursive: true, force: true });
    }
  });

  it('is one lock under every path to the folder', async () => {
    const link = `${dir}-link`;
    await symlink(dir, link);
    try {
      await take();
      await assert.rejects(take(link), inUse);
    } finally {
      await rm(link);
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
    assert.deepEqual(await readdir(dir), []);
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

  async function startOf(pid: number): Promise<string | undefined> {
    const text = await readFile(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[19];
  }

  /** The socket of a process that was killed: a file that nobody serves. */
  async function leaveSocket(path: string): Promise<void> {
    const server = createServer();
    const served = `${path}.served`;
    await once(server.listen({ path: served }), 'listening');
    await rename(served, path);
    server.close();
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
