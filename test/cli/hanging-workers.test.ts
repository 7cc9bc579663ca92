/** Workers that no longer do anything, but do not end. Their servers are not there, so that this needs no database. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { runChild } from './child.js';
import type { Child } from './child.js';

/** More than the signs of life that may be missing. */
const enough = 20;

/** Of what a test waits for, and of a test. */
const [waitMsMax, timeout] = [30_000, 120_000];

test(
  'a primary that was stopped for longer than a worker may be silent kills none when it goes on',
  { timeout },
  async (t) => {
    const { child, serving, ticks } = await startTwo(t);
    child.signal('SIGSTOP');
    await ticks(enough);
    child.signal('SIGCONT');
    // Long enough for it to find that somebody is silent.
    await ticks(enough);
    assert.equal(serving().length, 2);
    assert.doesNotMatch(child.stderr(), /hangs|has ended/);
  },
);

test('a worker that is stopped, and one that spins, are killed and replaced', { timeout }, async (t) => {
  const { child, serving, saw } = await startTwo(t);
  const [stopped, spinning] = serving();
  assert.ok(stopped !== undefined && spinning !== undefined, child.stderr());
  process.kill(stopped, 'SIGSTOP');
  process.kill(spinning, 'SIGUSR2');
  await saw(/(?:"a worker serves"[^]*?){4}/);
  for (const worker of [stopped, spinning]) {
    assert.match(child.stderr(), new RegExp(`"worker":${worker},"silentMs":1500,"msg":"a worker hangs: it is killed"`));
    assert.match(child.stderr(), new RegExp(`"worker":${worker},.*"signal":"SIGKILL".*"a worker has ended"`));
  }
  assert.equal(child.stderr().match(/"a worker hangs/g)?.length, 2, child.stderr());
  assert.equal(serving().length, 2);
});

interface Two {
  readonly child: Child;
  /** The process ids of the workers that serve. */
  readonly serving: () => number[];
  /** Resolves when they or their primary have written it; rejects with what they have after 30 s. */
  readonly saw: (pattern: RegExp) => Promise<void>;
  /** Resolves when each of them has ticked so many times more. */
  readonly ticks: (count: number) => Promise<void>;
}

async function startTwo(t: TestContext): Promise<Two> {
  const named = (pattern: RegExp): number[] =>
    Array.from(child.stderr().matchAll(pattern), ([, worker]) => Number(worker));
  const serving = (): number[] => {
    const ended = named(/"worker":(\d+),.*"a worker has ended"/g);
    return named(/"worker":(\d+),"msg":"a worker serves"/g).filter((worker) => !ended.includes(worker));
  };
  // First of all: those that hang do not end with their primary, whose output they keep open.
  t.after(() => {
    for (const worker of serving()) {
      try {
        process.kill(worker, 'SIGKILL');
      } catch {
        // It has ended.
      }
    }
  });
  const saw = async (pattern: RegExp): Promise<void> => {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`${pattern} is not in ${child.stderr()}`)), waitMsMax);
    });
    await Promise.race([child.saw('stderr', pattern), late]).finally(() => clearTimeout(timer));
  };
  const child = runChild(t, 'workers-child.js', ['hangs']);
  await saw(/(?:"a worker serves"[^]*?){2}/);
  return {
    child,
    serving,
    saw,
    async ticks(count) {
      const seen = async (worker: number): Promise<unknown> => {
        const before = named(new RegExp(`tick (\\d+) of ${worker}\\b`, 'g')).at(-1) ?? 0;
        return saw(new RegExp(`tick ${before + count} of ${worker}\\b`));
      };
      await Promise.all(serving().map(seen));
    },
  };
}
