import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Database } from '../../src/db/database.js';
import { StorageError } from '../../src/db/database.js';
import { Problem } from '../../src/errors.js';
import type { ErrorCode } from '../../src/errors.js';
import { Wakeups } from '../../src/event-log/wakeups.js';
import type { EventStream, EventStreamsOptions, StreamedEvents } from '../../src/http/event-streams.js';
import { EventStreams } from '../../src/http/event-streams.js';
import { KeyWatch } from '../../src/http/key-watch.js';
import type { BodyStream } from '../../src/http/route.js';
import { signal } from '../support/conformance.js';
import { append, newLog, openLog } from '../support/log.js';
import { createStorage } from '../support/storage.js';
import { TestClock } from '../support/test-clock.js';

const streamsMax = 1_000;
const streamsPerOrgMax = 100;
const retriesMax = 30;

const caller = (org: string) => ({ kind: 'key', org, scopes: new Set(['events:read']) }) as never;
const neverCalled = (): never => assert.fail('this is not called');
const noDatabase = { engine: 'embedded', transaction: neverCalled } as unknown as Database;

interface TestOptions extends Partial<Omit<EventStreamsOptions, 'keyWatch'>> {
  readonly authenticator?: ConstructorParameters<typeof KeyWatch>[0];
}

function streamsWith({ authenticator, ...options }: TestOptions): EventStreams {
  const clock = options.clock ?? new TestClock();
  return new EventStreams({
    database: noDatabase,
    clock,
    wakeups: new Wakeups(),
    keyWatch: new KeyWatch(authenticator ?? { authenticate: () => caller('1') }, clock),
    onFailure: (error) => assert.fail(String(error)),
    ...options,
  });
}

function enter(streams: EventStreams, org: string): { stream: EventStream; leave: () => void } {
  const gone = new AbortController();
  const headers = { authorization: `Bearer key of ${org}` };
  return { stream: streams.enter({ org, headers, gone: gone.signal }), leave: () => gone.abort() };
}

const isOverloaded = (error: unknown): boolean => error instanceof Problem && error.code === 'overloaded';

/** A connection whose client reads only when it is told to, after `fits` writes. */
class SlowBody implements BodyStream {
  readonly written: string[] = [];
  readonly full = signal();
  #drain: () => void = () => {};

  constructor(private readonly fits: number) {}

  write(text: string): boolean {
    this.written.push(text);
    if (this.written.length < this.fits) return true;
    this.full.fire();
    return false;
  }

  once(_event: 'drain', listener: () => void): void {
    this.#drain = listener;
  }

  drain(): void {
    this.#drain();
  }
}

const fromTheBeginning: StreamedEvents = {
  place: { position: 1, day: 0 },
  types: null,
  wantsPayload: true,
  render: ({ position, payload }) => `${position} ${payload}\n`,
};

test('a thousand streams at most are open on a node, and one that ends makes room', () => {
  const streams = streamsWith({});
  const open = Array.from({ length: streamsMax }, (_, i) => enter(streams, String(i)));
  assert.equal(streams.open, streamsMax);
  assert.throws(() => enter(streams, 'one more'), isOverloaded);
  open[0]?.leave();
  enter(streams, 'one more');
  assert.throws(() => enter(streams, '0'), isOverloaded);
});

test('a hundred of them at most are of one org', () => {
  const streams = streamsWith({});
  const open = Array.from({ length: streamsPerOrgMax }, () => enter(streams, '1'));
  assert.throws(() => enter(streams, '1'), isOverloaded);
  enter(streams, '2');
  for (const { leave } of open) leave();
  assert.equal(streams.open, 1);
  for (const _ of open) enter(streams, '1');
  assert.throws(() => enter(streams, '1'), isOverloaded);
});

test('a node that stops ends its streams and opens none', async () => {
  const streams = streamsWith({});
  const { stream } = enter(streams, '1');
  streams.drain();
  await stream.run(new SlowBody(1), fromTheBeginning);
  assert.throws(() => enter(streams, '1'), isOverloaded);
});

test('what a client gets while it does not read is not read from the storage', async (t) => {
  const storage = await createStorage('embedded');
  assert.ok(storage);
  const database = await openLog(storage);
  t.after(async () => {
    await database.close();
    await storage.remove();
  });
  const org = await newLog(database, Date.now());
  const payload = JSON.stringify('x'.repeat(30_000));
  await append(
    database,
    org,
    Array.from({ length: 20 }, () => ({ payload })),
    Date.now(),
  );
  let looks = 0;
  const counting: Database = {
    ...database,
    engine: 'embedded',
    transaction: (scope, work) => {
      looks++;
      return database.transaction(scope, work);
    },
  };
  const wakeups = new Wakeups();
  const { stream, leave } = enter(streamsWith({ database: counting, wakeups }), org);
  const body = new SlowBody(3);
  const running = stream.run(body, fromTheBeginning);
  await body.full.promise;
  for (let i = 0; i < 100; i++) {
    wakeups.appended(org);
    await database.query({ role: 'app', org, priority: 'read' }, { name: 'test_one', text: 'SELECT 1' });
  }
  assert.equal(looks, 3);
  // Two of them fit in 64 KiB.
  assert.deepEqual(
    body.written.map((text) => text.split('\n').length - 1),
    [2, 2, 2],
  );
  const written = new Promise<void>((resolve) => {
    const write = body.write.bind(body);
    body.write = (text) => {
      const more = write(text);
      resolve();
      return more;
    };
  });
  body.drain();
  await written;
  assert.equal(looks, 4);
  leave();
  await running;
  const positions = body.written.join('').matchAll(/^(\d+) /gm);
  assert.deepEqual(
    Array.from(positions, ([, position]) => Number(position)),
    [1, 2, 3, 4, 5, 6, 7, 8],
  );
});

/** A database that fails `failures` times and then knows no org, which ends a stream. */
function failing(failures: number): { database: Database; looks: () => number } {
  let looks = 0;
  const transaction = (): Promise<null> => {
    looks++;
    return looks > failures ? Promise.resolve(null) : Promise.reject(new StorageError('unavailable', 'test'));
  };
  return { database: { ...noDatabase, transaction: transaction as never }, looks: () => looks };
}

/** Moves the time until a stream has ended. Returns for how many seconds that was. */
async function secondsUntil(ended: Promise<void>, clock: TestClock): Promise<number> {
  for (let seconds = 0; ; seconds++) {
    const soon = (async () => {
      for (let i = 0; i < 50; i++) await Promise.resolve();
      return false;
    })();
    if (await Promise.race([ended.then(() => true), soon])) return seconds;
    clock.advance(1_000);
  }
}

describe('a storage that fails', () => {
  test('is tried again every second, and the stream goes on', async () => {
    const clock = new TestClock();
    const { database, looks } = failing(3);
    const { stream } = enter(streamsWith({ database, clock }), '1');
    assert.equal(await secondsUntil(stream.run(new SlowBody(9), fromTheBeginning), clock), 3);
    assert.equal(looks(), 4);
  });

  test('for longer than half a minute ends the stream, and the client comes again', async () => {
    const clock = new TestClock();
    const { database, looks } = failing(Infinity);
    const { stream } = enter(streamsWith({ database, clock }), '1');
    assert.ok((await secondsUntil(stream.run(new SlowBody(9), fromTheBeginning), clock)) <= retriesMax + 1);
    assert.equal(looks(), retriesMax + 1);
  });
});

describe('a key', () => {
  const outcome = async (authenticate: () => never): Promise<number> => {
    const clock = new TestClock();
    const waiting: Database = { ...noDatabase, transaction: () => new Promise(() => {}) };
    const streams = streamsWith({ database: waiting, clock, authenticator: { authenticate } });
    const { stream } = enter(streams, '1');
    let ended = 0;
    const end = stream.end.bind(stream);
    stream.end = () => {
      ended++;
      end();
    };
    clock.advance(2_000);
    for (let i = 0; i < 50; i++) await Promise.resolve();
    clock.advance(2_000);
    return ended;
  };
  const refused = (code: ErrorCode) => (): never => {
    throw new Problem(code, 'test');
  };

  for (const code of ['invalid_key', 'org_suspended'] as const) {
    test(`that is refused with ${code} ends its streams`, async () => {
      assert.ok((await outcome(refused(code))) > 0);
    });
  }

  test('that cannot be looked up, or has the scope still, does not', async () => {
    const unavailable = (): never => {
      throw new StorageError('unavailable', 'test');
    };
    assert.equal(await outcome(unavailable), 0);
    assert.equal(await outcome(refused('overloaded')), 0);
    assert.equal(await outcome(() => caller('1')), 0);
  });

  test('of another org, without the scope, or the admin token ends it', async () => {
    assert.ok((await outcome(() => caller('2'))) > 0);
    assert.ok((await outcome(() => ({ kind: 'key', org: '1', scopes: new Set() }) as never)) > 0);
    assert.ok((await outcome(() => ({ kind: 'admin' }) as never)) > 0);
  });
});

test('many streams ask for their keys one after the other, and those of one key once', async () => {
  const clock = new TestClock();
  let [asking, most, asked] = [0, 0, 0];
  const authenticate = async () => {
    asked++;
    most = Math.max(most, ++asking);
    await Promise.resolve();
    asking--;
    return caller('1');
  };
  const streams = streamsWith({ clock, authenticator: { authenticate } });
  for (let i = 0; i < 50; i++) enter(streams, String(i % 2));
  clock.advance(2_000);
  for (let i = 0; i < 1_000; i++) await Promise.resolve();
  assert.deepEqual([asked, most], [2, 1]);
});
