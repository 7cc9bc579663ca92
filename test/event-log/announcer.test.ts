import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { StorageError } from '../../src/db/database.js';
import type { Database, QueryResult } from '../../src/db/database.js';
import { Announcer } from '../../src/event-log/announcer.js';
import { Wakeups } from '../../src/event-log/wakeups.js';
import { Inbox } from '../../src/inbox/inbox.js';
import { signal } from '../support/conformance.js';
import { TestClock } from '../support/test-clock.js';

const unexpected = (error: unknown): never => assert.fail(String(error));

describe('wakeups', () => {
  test('reach every watcher of the org and one waiter, and a turn that is passed on no watcher', () => {
    const wakeups = new Wakeups();
    const woken: string[] = [];
    const leave = ['first', 'second'].map((name) => wakeups.watch('1', () => woken.push(name)));
    wakeups.watch('2', () => woken.push('other'));
    for (const name of ['waiter', 'next waiter']) wakeups.register('1', 0, () => woken.push(name));
    wakeups.appended('1');
    assert.deepEqual(woken.splice(0), ['waiter', 'first', 'second']);
    wakeups.wake('1');
    assert.deepEqual(woken.splice(0), ['waiter']);
    leave[0]?.();
    leave[0]?.();
    wakeups.wakeAll();
    assert.deepEqual(woken.splice(0), ['waiter', 'second', 'other']);
    assert.equal(wakeups.waiting, 2);
  });

  test('call the waiter of the org that grew who has waited longest, and the next once that one has left', () => {
    const wakeups = new Wakeups();
    const woken: string[] = [];
    const leave = wakeups.register('1', 0, () => woken.push('first'));
    wakeups.register('1', 0, () => woken.push('second'));
    wakeups.register('2', 0, () => woken.push('other'));
    wakeups.wake('1');
    assert.deepEqual(woken, ['first']);
    leave();
    wakeups.wakeAll();
    assert.deepEqual(woken, ['first', 'second', 'other']);
  });

  test('end with their registration, and are counted until then', () => {
    const wakeups = new Wakeups();
    let woken = 0;
    const wake = (): void => void woken++;
    const unregister = [wakeups.register('1', 0, wake), wakeups.register('1', 0, wake)];
    assert.deepEqual([wakeups.waiting, wakeups.waitingFor('1'), wakeups.waitingFor('2')], [2, 2, 0]);
    unregister[0]?.();
    unregister[0]?.();
    assert.deepEqual([wakeups.waiting, wakeups.waitingFor('1')], [1, 1]);
    wakeups.wake('1');
    assert.equal(woken, 1);
    unregister[1]?.();
    wakeups.wake('1');
    assert.deepEqual([wakeups.waiting, wakeups.waitingFor('1'), woken], [0, 0, 1]);
  });
});

/** A database that says that nothing is pending. Each look is held until it is let go. */
function emptyInbox() {
  const clock = new TestClock();
  const wakeups = new Wakeups();
  const looks: (() => void)[] = [];
  let onLook = (): void => {};
  const database = {
    transaction: async () => {
      const look = signal();
      looks.push(look.fire);
      onLook();
      await look.promise;
      return { events: [], attempt: 1, moreDue: false, nextDueAtMs: null };
    },
  } as unknown as Database;
  /** Resolves when the receiver has looked this often, each time finding nothing. */
  const looked = async (count: number): Promise<void> => {
    while (looks.length < count) {
      const next = signal();
      onLook = next.fire;
      await next.promise;
    }
  };
  return { clock, wakeups, inbox: new Inbox(database, clock, wakeups, () => {}), looks, looked };
}

/** Lets everything run that needs no more than promises. */
const settled = (): Promise<void> => new Promise((resume) => setImmediate(resume));
const waiting = {
  eventsMax: 1,
  waitSeconds: 30,
  leaseSeconds: 60,
  wantsPayload: true,
  signal: new AbortController().signal,
  stillAllowed: () => Promise.resolve(),
};

describe('a receiver that waits', () => {
  test('registers before it looks: what is appended during its look makes it look again', async () => {
    const { wakeups, inbox, looks, looked } = emptyInbox();
    const received = inbox.receive('1', 0, waiting);
    await looked(1);
    wakeups.wake('1');
    looks[0]?.();
    await looked(2);
    inbox.drain();
    looks[1]?.();
    assert.equal((await received).lease, null);
    assert.equal(wakeups.waiting, 0);
  });

  test('does not look again without a reason, but every five seconds in case a message was lost', async () => {
    const { clock, inbox, looks, looked } = emptyInbox();
    const received = inbox.receive('1', 0, waiting);
    await looked(1);
    looks[0]?.();
    await settled();
    clock.advance(4_999);
    await settled();
    assert.equal(looks.length, 1);
    clock.advance(1);
    await looked(2);
    looks[1]?.();
    await settled();
    inbox.drain();
    await looked(3);
    looks[2]?.();
    await received;
  });
});

/** Records notifications instead of sending them. The first ones can be held back or made to fail. */
function fakePostgres(behave: (call: number) => Promise<void> = () => Promise.resolve()) {
  const sent: string[][] = [];
  let notify = (_payload: string): void => {};
  let gap = (): void => {};
  const database: Pick<Database, 'engine' | 'query' | 'listen'> = {
    engine: 'postgres',
    async query<Row>(_scope: unknown, _statement: unknown, values: readonly unknown[] = []): Promise<QueryResult<Row>> {
      sent.push(values[0] as string[]);
      await behave(sent.length);
      return { rows: [], rowCount: 0 };
    },
    listen(_channel, onNotify, onGap = () => {}) {
      [notify, gap] = [onNotify, onGap];
      return Promise.resolve(() => Promise.resolve());
    },
  };
  return { database: database as Database, sent, notify: (text: string) => notify(text), gap: () => gap() };
}

describe('the announcer', () => {
  test('wakes the waiters of this node at once, and sends no message on an engine without other nodes', async () => {
    const { database, sent } = fakePostgres();
    const wakeups = new Wakeups();
    const announcer = new Announcer({ ...database, engine: 'embedded' }, new TestClock(), wakeups, unexpected);
    await announcer.start();
    let woken = 0;
    wakeups.register('1', 0, () => woken++);
    announcer.appended(['1']);
    assert.equal(woken, 1);
    await announcer.stop();
    assert.deepEqual(sent, []);
  });

  test('wakes the waiters of the orgs in a message of another node, and everyone after a gap', async () => {
    const { database, notify, gap } = fakePostgres();
    const wakeups = new Wakeups();
    const announcer = new Announcer(database, new TestClock(), wakeups, unexpected);
    await announcer.start();
    const woken: string[] = [];
    for (const org of ['1', '2', '3']) wakeups.register(org, 0, () => woken.push(org));
    notify('1,3');
    assert.deepEqual(woken, ['1', '3']);
    gap();
    assert.deepEqual(woken, ['1', '3', '1', '2', '3']);
    await announcer.stop();
  });

  test('sends one message at a time; what is appended meanwhile goes out together, each org once', async () => {
    const first = signal();
    const { database, sent } = fakePostgres((call) => (call === 1 ? first.promise : Promise.resolve()));
    const announcer = new Announcer(database, new TestClock(), new Wakeups(), unexpected);
    await announcer.start();
    announcer.appended(['1']);
    announcer.appended(['2', '3']);
    announcer.appended(['2', '4']);
    assert.deepEqual(sent, [['1']]);
    first.fire();
    await announcer.stop();
    assert.deepEqual(sent, [['1'], ['2,3,4']]);
  });

  test('cuts messages below 4,000 bytes and leaves no org out', async () => {
    const { database, sent } = fakePostgres();
    const announcer = new Announcer(database, new TestClock(), new Wakeups(), unexpected);
    await announcer.start();
    const orgs = Array.from({ length: 1_000 }, (_, i) => String(2 ** 47 + i));
    announcer.appended(orgs);
    await announcer.stop();
    const messages = sent.flat();
    assert.ok(messages.length > 1 && messages.every((message) => Buffer.byteLength(message) <= 4_000));
    assert.deepEqual(
      messages.flatMap((message) => message.split(',')),
      orgs,
    );
  });

  test('sends no message within 20 ms of the last one; what is appended meanwhile goes out together', async () => {
    const clock = new TestClock();
    const { database, sent } = fakePostgres();
    const announcer = new Announcer(database, clock, new Wakeups(), unexpected);
    await announcer.start();
    announcer.appended(['1']);
    await settled();
    announcer.appended(['2']);
    announcer.appended(['3']);
    clock.advance(19);
    await settled();
    assert.deepEqual(sent, [['1']]);
    clock.advance(1);
    await settled();
    assert.deepEqual(sent, [['1'], ['2,3']]);
    await announcer.stop();
  });

  test('of more than 1,000 orgs it keeps none, and tells everyone to look', async () => {
    const first = signal();
    const { database, sent, notify } = fakePostgres((call) => (call === 1 ? first.promise : Promise.resolve()));
    const wakeups = new Wakeups();
    const announcer = new Announcer(database, new TestClock(), wakeups, unexpected);
    await announcer.start();
    announcer.appended(['1']);
    announcer.appended(Array.from({ length: 100_000 }, (_, i) => String(i + 1)));
    first.fire();
    await announcer.stop();
    assert.deepEqual(sent, [['1'], ['*']]);
    const woken: string[] = [];
    for (const org of ['1', '200000']) wakeups.register(org, 0, () => woken.push(org));
    notify('*');
    assert.deepEqual(woken, ['1', '200000']);
  });

  test('starts where it cannot listen, tries again every 10 s, and then has everyone look; a refused address is no start', async () => {
    const clock = new TestClock();
    const { database, sent } = fakePostgres();
    const wakeups = new Wakeups();
    const failures: unknown[] = [];
    let tries = 0;
    let problem: Error | null = new StorageError('sql', 'not now', { sqlstate: '53300' });
    const deaf: Database = {
      ...database,
      listen: () => {
        tries++;
        return problem === null ? Promise.resolve(() => Promise.resolve()) : Promise.reject(problem);
      },
    };
    const announcer = new Announcer(deaf, clock, wakeups, (error) => failures.push(error));
    await announcer.start();
    let woken = 0;
    wakeups.register('1', 0, () => woken++);
    announcer.appended(['7']);
    assert.deepEqual(sent, [['7']], 'others can hear it all the same');
    problem = new StorageError('unavailable', 'gone');
    clock.advance(10_000);
    await settled();
    problem = null;
    assert.deepEqual([tries, woken, failures.length], [2, 0, 2]);
    clock.advance(10_000);
    await settled();
    clock.advance(60_000);
    assert.deepEqual([tries, woken, failures.length], [3, 1, 2]);
    await announcer.stop();

    problem = new StorageError('sql', 'the address leads to a pooler');
    const refused = new Announcer(deaf, clock, wakeups, unexpected);
    await assert.rejects(refused.start(), /leads to a pooler/);
    await refused.stop();
  });

  test('goes on after a message that failed', async () => {
    const { database, sent } = fakePostgres((call) =>
      call === 1 ? Promise.reject(new Error('gone')) : Promise.resolve(),
    );
    const failures: unknown[] = [];
    const failed = signal();
    const announcer = new Announcer(database, new TestClock(), new Wakeups(), (error) => {
      failures.push(error);
      failed.fire();
    });
    await announcer.start();
    announcer.appended(['1']);
    await failed.promise;
    announcer.appended(['2']);
    await announcer.stop();
    assert.deepEqual(sent, [['1'], ['2']]);
    assert.equal(failures.length, 1);
  });
});
