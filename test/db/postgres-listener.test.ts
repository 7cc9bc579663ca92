import assert from 'node:assert/strict';
import { it } from 'node:test';
import { StorageError } from '../../src/db/database.js';
import { PostgresListener } from '../../src/db/postgres-listener.js';
import type { WireSession } from '../../src/db/wire-session.js';
import { signal } from '../support/conformance.js';
import { TestClock } from '../support/test-clock.js';

/** A session that answers as it is told to. */
function scripted(answer: (text: string) => Promise<void>) {
  const ended = signal();
  const said: string[] = [];
  const session = {
    ended: ended.promise,
    run: async (text: string) => {
      said.push(text);
      await answer(text);
      return [];
    },
    end: async () => ended.fire(),
  };
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- all that the listener uses
  return { session: session as unknown as WireSession, said, break: ended.fire };
}

/** Lets everything run that waits for no timer. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

it('tries LISTEN again when the server refuses it, and reports the gap only once it is heard', async (t) => {
  const clock = new TestClock();
  const refuse = new Set<string>();
  const lines: string[] = [];
  const sessions: ReturnType<typeof scripted>[] = [];
  const open = async (): Promise<WireSession> => {
    const made = scripted(async (text) => {
      if (refuse.has(text)) throw new StorageError('sql', 'not now', { sqlstate: '57014' });
    });
    sessions.push(made);
    return made.session;
  };
  const listener = new PostgresListener({ clock, onLog: (line) => lines.push(line), open });
  t.after(() => listener.close());
  let gaps = 0;
  await listener.listen(
    'news',
    () => {},
    () => gaps++,
  );

  refuse.add('LISTEN "news"');
  sessions[0]?.break();
  await settled();
  for (let tries = 1; tries <= 4; tries++) {
    clock.advance(10_000);
    await settled();
    assert.equal(sessions.length, 2, 'a session that works was thrown away');
    assert.equal(sessions[1]?.said.filter((text) => text === 'LISTEN "news"').length, tries);
  }
  assert.equal(gaps, 0);
  assert.match(lines.at(-1) ?? '', /will be tried again: not now/);

  refuse.clear();
  clock.advance(20_000);
  await settled();
  assert.equal(gaps, 1);
  // Nothing is tried any more but whether the session lives.
  const before = sessions[1]?.said.length ?? 0;
  clock.advance(15_000);
  await settled();
  assert.deepEqual(sessions[1]?.said.slice(before), ['SELECT 1']);
});

it('goes on asking whether its session lives after one such question failed', async (t) => {
  const clock = new TestClock();
  let fails = true;
  const { session, said } = scripted(async (text) => {
    if (fails && text === 'SELECT 1') throw new StorageError('sql', 'canceled', { sqlstate: '57014' });
  });
  const listener = new PostgresListener({ clock, onLog: () => {}, open: async () => session });
  t.after(() => listener.close());
  await listener.listen('news', () => {});
  for (let i = 0; i < 3; i++) {
    clock.advance(15_000);
    await settled();
    fails = false;
  }
  assert.equal(said.filter((text) => text === 'SELECT 1').length, 3);
});
