/**
 * What one node stores, a receiver that waits on another node is told by NOTIFY; and where LISTEN is taken away from that node, it finds it by looking.
 * The time in which nodes look stands still until the test moves it, so each of the two ways is seen without the other.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import type { RunningServer } from '../../src/app.js';
import { systemClock } from '../../src/clock.js';
import type { Clock } from '../../src/clock.js';
import { Client, createOrg } from '../support/client.js';
import type { Answer, TestOrg } from '../support/client.js';
import { signal } from '../support/conformance.js';
import { startNode } from '../support/node.js';
import { startNotificationProxy } from '../support/notification-proxy.js';
import type { Hearing, NotificationProxy } from '../support/notification-proxy.js';
import { createStorage, stopServers } from '../support/storage.js';

const storage = await createStorage('postgres');
const skip = storage === null && 'no PostgreSQL on this machine';
/** As docs/operations.md says. */
const lookMs = 5_000;
const boundMs = 30_000;

/** The time of this machine, but that a receiver's wait for its next look ends when `look` is called. */
class HeldClock implements Clock {
  readonly #held = new Set<() => void>();
  #isHeld = signal();
  readonly now = (): number => systemClock.now();
  readonly monotonic = (): number => systemClock.monotonic();

  after(delayMs: number, fire: () => void): () => void {
    // By its name, since whoever waits for a session of the pool waits as long.
    if (delayMs !== lookMs || fire.name !== 'wake') return systemClock.after(delayMs, fire);
    this.#held.add(fire);
    this.#isHeld.fire();
    return () => this.#held.delete(fire);
  }

  /** Resolves when somebody waits for his next look. */
  async waits(): Promise<void> {
    while (this.#held.size === 0) {
      this.#isHeld = signal();
      await this.#isHeld.promise;
    }
  }

  look(): void {
    for (const fire of this.#held) fire();
    this.#held.clear();
  }
}

interface Receiver {
  readonly hearing: Hearing;
  readonly clock: HeldClock;
  readonly proxy: NotificationProxy;
  readonly node: RunningServer;
}

describe('a receiver that waits on another node', { skip }, () => {
  if (storage === null) return;
  const nodes: RunningServer[] = [];
  const proxies: NotificationProxy[] = [];
  const receivers: Receiver[] = [];
  let sender: RunningServer;
  let org: TestOrg;
  before(async () => {
    sender = await startNode(storage, { dbPool: 3 });
    nodes.push(sender);
    org = await createOrg(sender.address);
    for (const hearing of ['heard', 'dropped', 'refused', 'killed', 'silent'] as const) {
      const url = new URL(storage.config.databaseUrl ?? '');
      const proxy = await startNotificationProxy(Number(url.port));
      proxies.push(proxy);
      // A node that cannot listen starts all the same; the others lose it later.
      if (hearing === 'refused') proxy.become(hearing);
      url.port = String(proxy.port);
      const clock = new HeldClock();
      const node = await startNode(storage, { dbPool: 2, listenUrl: url.href }, clock);
      nodes.push(node);
      receivers.push({ hearing, clock, proxy, node });
    }
  });
  after(async () => {
    for (const proxy of proxies) await proxy.close();
    for (const node of nodes) await node.stop();
    await storage.remove();
    await stopServers();
  });

  it(`gets its event at once by NOTIFY, and without that when it looks, every ${lookMs} ms`, async () => {
    // Each has an inbox of its own, so that they take nothing from each other.
    const waits = await Promise.all(
      receivers.map(async ({ hearing, node, clock, proxy }) => {
        const client = new Client(node.address, org.key);
        const made = await client.post('/v1/inboxes', { name: hearing });
        assert.equal(made.status, 201, made.text);
        const state: { answer: Answer | null } = { answer: null };
        const answered = within(client.post(`/v1/inboxes/${hearing}/receive`, { wait_seconds: 20 }), hearing).then(
          (answer) => {
            state.answer = answer;
            return answer;
          },
        );
        answered.catch(() => {});
        await within(clock.waits(), hearing);
        proxy.become(hearing);
        return { hearing, clock, proxy, state, answered };
      }),
    );
    const stored = await org.client.post('/v1/events', { type: 'a', payload: 1 });
    assert.equal(stored.status, 201, stored.text);
    const got = (answer: Answer | null): unknown => answer?.json.data.map(({ id }: { id: string }) => id);

    const [heard, ...deaf] = waits;
    await heard?.answered;
    assert.deepEqual(got(heard?.state.answer ?? null), [stored.json.id]);
    for (const { hearing, proxy } of deaf) {
      // The server has told these as well, and it did not get through.
      if (hearing === 'dropped' || hearing === 'silent') await within(proxy.notified, hearing);
    }
    // With neither NOTIFY nor a look nothing comes: without this the rest would prove nothing.
    for (const { hearing, state } of deaf) assert.equal(got(state.answer), undefined, `${hearing}: woken by what?`);

    for (const { clock } of deaf) clock.look();
    for (const { hearing, state, answered } of deaf) {
      await answered;
      assert.deepEqual(got(state.answer), [stored.json.id], hearing);
    }
  });

  it('hears of what comes again once its connection can be made anew, without a look', async () => {
    const killed = receivers.find(({ hearing }) => hearing === 'killed');
    assert.ok(killed);
    const { clock, node, proxy } = killed;
    const waiting = within(
      new Client(node.address, org.key).post('/v1/inboxes/killed/receive', { wait_seconds: 20 }),
      'killed',
    );
    await within(clock.waits(), 'killed');
    const { status } = await org.client.post('/v1/events', { type: 'a', payload: 2 });
    assert.equal(status, 201);
    proxy.become('heard');
    assert.equal((await waiting).json.data.length, 1);
  });
});

it('the time between two looks is the one that the documents name', () => {
  for (const page of ['operations.md', 'configuration.md']) {
    const text = readFileSync(new URL(`../../../docs/${page}`, import.meta.url), 'utf8');
    assert.match(text, new RegExp(`every ${lookMs / 1000} s`), page);
  }
});

/** Rejects, saying whose answer did not come, after a time in which it comes on any machine. */
async function within<T>(answer: Promise<T>, whose: string): Promise<T> {
  let cancel = (): void => {};
  const late = new Promise<never>((_, reject) => {
    cancel = systemClock.after(boundMs, () => reject(new Error(`${whose}: no answer`)));
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    cancel();
  }
}
