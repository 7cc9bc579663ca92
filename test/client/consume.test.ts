/** The consumer loop, against an inbox that notes down what it is asked, and time that is moved by hand. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SluiceError } from '../../src/client/index.js';
import type { ReceivedEvent } from '../../src/client/index.js';
import { consume, leaseSeconds, NotedInbox, turns } from './noted-inbox.js';

test('every event is handled once, no more of them at a time than allowed, and acknowledged in few requests', async () => {
  const inbox = new NotedInbox(200);
  let running = 0;
  let most = 0;
  const handled: string[] = [];
  const { stop, ended } = consume(inbox, { concurrency: 20, max: 100 }, async ({ id }) => {
    most = Math.max(most, ++running);
    await turns(1);
    running--;
    handled.push(id);
  });
  while (inbox.acknowledged.length < 200) await turns(1);
  stop();
  await ended;
  assert.equal(most, 20);
  assert.deepEqual(handled.toSorted(), inbox.acknowledged.toSorted());
  assert.equal(new Set(handled).size, 200);
  assert.ok(inbox.acks.length <= 30, `${inbox.acks.length} requests`);
  assert.deepEqual(inbox.nacks, []);
});

test('one at a time keeps the order of the log', async () => {
  const inbox = new NotedInbox(30);
  const handled: string[] = [];
  const { stop, ended } = consume(inbox, { concurrency: 1 }, async ({ id }) => {
    await turns(1);
    handled.push(id);
  });
  while (handled.length < 30) await turns(1);
  stop();
  await ended;
  assert.deepEqual(handled, handled.toSorted());
});

test('no more events are held than max, also while acknowledgements are not answered', async () => {
  const inbox = new NotedInbox(100);
  inbox.isAckStuck = true;
  const { stop, ended } = consume(inbox, { concurrency: 4, max: 10 }, () => {});
  await turns(20);
  assert.equal(inbox.handedOut, 10);
  inbox.isAckStuck = false;
  inbox.unstick();
  while (inbox.acknowledged.length < 100) await turns(1);
  stop();
  await ended;
});

test('what a handler throws on is given back, later with each attempt, and told', async () => {
  const inbox = new NotedInbox(0);
  inbox.push(1, 1);
  inbox.push(1, 4);
  inbox.push(1, 20);
  const told: unknown[] = [];
  const reason = new Error('bad event');
  const onError = (error: unknown, event: ReceivedEvent | null): void => void told.push([error, event?.attempt]);
  const { stop, ended } = consume(inbox, { onError }, () => Promise.reject(reason));
  while (inbox.nacks.length < 3) await turns(1);
  stop();
  await ended;
  assert.deepEqual(
    inbox.nacks.map(({ delaySeconds }) => delaySeconds).toSorted((a, b) => a - b),
    [1, 8, 300],
  );
  assert.deepEqual(told, [
    [reason, 1],
    [reason, 4],
    [reason, 20],
  ]);
  assert.deepEqual(inbox.acknowledged, []);
});

test('a lease is extended at half its time for as long as one of its events is unsettled, and not after', async () => {
  const inbox = new NotedInbox(2);
  const finish: (() => void)[] = [];
  const { clock, stop, ended } = consume(inbox, {}, () => new Promise<void>((resolve) => void finish.push(resolve)));
  while (finish.length < 2) await turns(1);
  for (let half = 1; half <= 6; half++) {
    clock.advance((leaseSeconds / 2) * 1000);
    await turns(3);
    assert.equal(inbox.extensions.length, half);
    if (half === 3) finish[0]?.();
  }
  finish[1]?.();
  await turns(5);
  clock.advance(10 * leaseSeconds * 1000);
  await turns(3);
  assert.equal(inbox.extensions.length, 6);
  assert.equal(inbox.acknowledged.length, 2);
  stop();
  await ended;
});

for (const status of [404, 409]) {
  test(`an extension that is answered with ${status} stops the handlers of that lease, and nothing of it is given back`, async () => {
    const inbox = new NotedInbox(3);
    const stopped: string[] = [];
    const { clock, stop, ended } = consume(inbox, { concurrency: 2, max: 3 }, ({ id }, { signal }) => {
      return new Promise((_, reject) => {
        signal.addEventListener('abort', () => {
          stopped.push(id);
          reject(new Error('stopped'));
        });
      });
    });
    while (inbox.handedOut < 3) await turns(1);
    await turns(2);
    inbox.failExtensions = new SluiceError({ status, code: 'lease_expired', detail: '' });
    clock.advance((leaseSeconds / 2) * 1000);
    await turns(5);
    // The third had not begun, and never does.
    assert.equal(stopped.length, 2);
    assert.deepEqual([inbox.nacks, inbox.acks], [[], []]);
    stop();
    await ended;
    assert.deepEqual([inbox.nacks, inbox.acks], [[], []]);
  });
}

test('an extension that passing trouble keeps back is tried until the lease ends; then the handlers are stopped', async () => {
  const inbox = new NotedInbox(1);
  let isStopped = false;
  const { clock, stop, ended } = consume(inbox, {}, (_, { signal }) => {
    return new Promise<void>((resolve) => {
      signal.addEventListener('abort', () => {
        isStopped = true;
        resolve();
      });
    });
  });
  while (inbox.handedOut < 1) await turns(1);
  inbox.failExtensions = new SluiceError({ status: 503, code: 'overloaded', detail: '' });
  clock.advance((leaseSeconds / 2) * 1000);
  await turns(3);
  inbox.failExtensions = null;
  clock.advance(5_000);
  await turns(3);
  assert.equal(inbox.extensions.length, 1, 'the trouble passed in time');
  inbox.failExtensions = new SluiceError({ status: null, code: 'no_answer', detail: '' });
  let seconds = 0;
  for (; seconds < 2 * leaseSeconds; seconds++) {
    if (isStopped) break;
    clock.advance(1_000);
    await turns(2);
  }
  // Extended 35 s after the beginning or a little earlier, it ends a minute after that.
  assert.ok(seconds >= leaseSeconds - 5 && seconds <= leaseSeconds, `stopped after ${seconds} s`);
  stop();
  await ended;
});

test('a handler that takes too long is told, and its event given back while it still runs', async () => {
  const inbox = new NotedInbox(1);
  let finish = (): void => {};
  let reason: unknown;
  const { clock, stop, ended } = consume(inbox, { handlerSeconds: 5 }, (_, { signal }) => {
    signal.addEventListener('abort', () => (reason = signal.reason));
    return new Promise<void>((resolve) => (finish = resolve));
  });
  while (inbox.handedOut < 1) await turns(1);
  clock.advance(5_000);
  await turns(3);
  assert.match(String(reason), /took longer than 5 seconds/);
  assert.equal(inbox.nacks.length, 1);
  finish();
  stop();
  await ended;
  assert.deepEqual(inbox.acks, [], 'what was given back is not acknowledged');
});

test('the signal ends the wait for events, lets handlers finish and be acknowledged, and gives back what has not begun', async () => {
  const inbox = new NotedInbox(10);
  const finish: (() => void)[] = [];
  const begun: string[] = [];
  const { stop, ended } = consume(inbox, { concurrency: 3, max: 10 }, ({ id }) => {
    begun.push(id);
    return new Promise<void>((resolve) => void finish.push(resolve));
  });
  while (begun.length < 3) await turns(1);
  stop();
  let hasEnded = false;
  void ended.then(() => (hasEnded = true));
  await turns(5);
  assert.equal(hasEnded, false);
  assert.equal(inbox.nacks.flatMap(({ ids }) => ids).length, 7);
  assert.deepEqual(
    inbox.nacks.map(({ delaySeconds }) => delaySeconds),
    [0],
  );
  for (const done of finish) done();
  await ended;
  assert.equal(begun.length, 3);
  assert.deepEqual(inbox.acknowledged.toSorted(), begun.toSorted());
});

test('trouble of the server is told and waited out; a refusal ends the loop after what has begun', async () => {
  const inbox = new NotedInbox(1);
  inbox.failReceives = new SluiceError({ status: 503, code: 'storage_unavailable', detail: '' });
  const told: unknown[] = [];
  const { clock, ended } = consume(inbox, { onError: (error) => void told.push(error) }, () => {});
  for (let minute = 0; minute < 60; minute++) {
    await turns(2);
    clock.advance(60_000);
  }
  assert.ok(told.length > 20, 'an hour of it is survived');
  inbox.failReceives = null;
  while (inbox.acknowledged.length < 1) {
    clock.advance(60_000);
    await turns(2);
  }
  const refusal = new SluiceError({ status: 401, code: 'invalid_key', detail: '' });
  inbox.failReceives = refusal;
  inbox.wake();
  await assert.rejects(ended, (error) => error === refusal);
});

for (const callback of ['onError', 'retryDelaySeconds'] as const) {
  for (const when of ['as the handler throws', 'as the handler takes too long']) {
    test(`a throwing ${callback}, ${when}, ends the loop after what has begun, with what it threw`, async () => {
      const inbox = new NotedInbox(2);
      const reason = new Error('of the callback');
      const options = {
        handlerSeconds: 5,
        [callback]: () => {
          throw reason;
        },
      };
      const finish: (() => void)[] = [];
      const { clock, ended } = consume(inbox, options, () => {
        if (when === 'as the handler throws') throw new Error('of the handler');
        return new Promise<void>((resolve) => void finish.push(resolve));
      });
      const rejected = assert.rejects(ended, (error) => error === reason);
      while (inbox.handedOut < 2) await turns(1);
      await turns(2);
      clock.advance(5_000);
      await turns(5);
      for (const done of finish) done();
      await rejected;
      assert.equal(inbox.nacks.flatMap(({ ids }) => ids).length, 2);
    });
  }
}

test('a throwing onError ends the loop also where a request failed', async () => {
  const reason = new Error('of the callback');
  const onError = (): never => {
    throw reason;
  };
  const trouble = new SluiceError({ status: 503, code: 'overloaded', detail: '' });
  const acks = new NotedInbox(1);
  acks.failAcks = trouble;
  await assert.rejects(consume(acks, { onError }, () => {}).ended, (error) => error === reason);
  const receives = new NotedInbox(1);
  receives.failReceives = trouble;
  await assert.rejects(consume(receives, { onError }, () => {}).ended, (error) => error === reason);
});

test('what waits to be given back is not, once its lease is lost', async () => {
  const inbox = new NotedInbox(2);
  let answer = (): void => {};
  const signals: (AbortSignal | undefined)[] = [];
  inbox.nack = async (ids, options) => {
    signals.push(options?.signal);
    await new Promise<void>((resolve) => (answer = resolve));
    return { released: 'leaseId' in ids ? 0 : ids.length };
  };
  const fail: (() => void)[] = [];
  const { clock, stop, ended } = consume(inbox, { concurrency: 2, max: 2 }, () => {
    return new Promise<void>((_, reject) => void fail.push(() => reject(new Error('bad event'))));
  });
  while (fail.length < 2) await turns(1);
  fail[0]?.();
  await turns(2);
  fail[1]?.();
  await turns(2);
  assert.equal(signals.length, 1, 'the second waits for the answer to the first');
  inbox.failExtensions = new SluiceError({ status: 409, code: 'lease_expired', detail: '' });
  clock.advance((leaseSeconds / 2) * 1000);
  await turns(5);
  assert.equal(signals[0]?.aborted, true, 'the first is not repeated any more');
  answer();
  stop();
  await ended;
  assert.equal(signals.length, 1);
});

test('an acknowledgement that is not taken is told, and the loop goes on', async () => {
  const inbox = new NotedInbox(1);
  inbox.failAcks = new SluiceError({ status: 503, code: 'overloaded', detail: '' });
  const told: unknown[] = [];
  const { stop, ended } = consume(inbox, { onError: (error) => void told.push(error) }, () => {});
  while (told.length < 1) await turns(1);
  inbox.failAcks = null;
  inbox.push(1, 1);
  inbox.wake();
  while (inbox.acknowledged.length < 1) await turns(1);
  stop();
  await ended;
});

test('options that cannot work are refused at once', () => {
  for (const options of [
    { concurrency: 0 },
    { max: 0 },
    { max: 1_001 },
    { leaseSeconds: 1 },
    { concurrency: Number.NaN },
  ]) {
    assert.throws(() => consume(new NotedInbox(0), options, () => {}), RangeError, JSON.stringify(options));
  }
});
