/**
 * What an event may allocate on the main thread's heap: the collector's work grows with it, and it does not depend on how fast the machine is. Counted in a
 * node whose young generation is so large that nothing is collected meanwhile, from its own metrics.
 */
import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { Client, createOrg } from '../support/client.js';
import type { Answer, TestOrg } from '../support/client.js';
import { adminToken, spawnNode } from '../support/node.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { EngineName, TestStorage } from '../support/storage.js';

after(stopServers);

const youngMegabytes = 128;
const roomToCollectNothing = [`--max-semi-space-size=${youngMegabytes}`, `--min-semi-space-size=${youngMegabytes}`];
/** For the control: each event leaves so much more behind. */
const wastedBytes = 8_192;
const wasteful = (bytes: number): string => `
  import { Server } from 'node:http';
  const { emit } = Server.prototype;
  Server.prototype.emit = function (name, ...rest) {
    if (name === 'request') globalThis.wasted = Array.from({ length: ${bytes / 8} }, (_, i) => i + 0.5);
    return emit.call(this, name, ...rest);
  };`;

const event = { type: 'user.created', payload: { user_id: '12345', text: 'x'.repeat(235) } };
const batch = Array.from({ length: 100 }, () => event);
/** Until functions are compiled as they will stay, they allocate more. */
const warmUpRounds = 25;
const rounds = 7;

interface Load {
  readonly what: string;
  /** Sent at once. */
  readonly requests: number;
  readonly events: number;
  readonly bytesMax: Readonly<Record<EngineName, number>>;
  readonly send: (org: TestOrg) => Promise<Answer>;
}

const loads: readonly Load[] = [
  {
    what: 'an event that comes with 99 others',
    requests: 100,
    events: 1,
    bytesMax: { embedded: 28_000, postgres: 28_000 },
    send: ({ client }) => client.post('/v1/events', event),
  },
  {
    what: 'an event of a batch of 100',
    requests: 4,
    events: 100,
    bytesMax: { embedded: 6_500, postgres: 6_500 },
    send: ({ client }) => client.post('/v1/events/batch', batch),
  },
];

for (const engine of engineNames) {
  const storage = await createStorage(engine);
  describe(`on ${engine}`, { skip: storage === null ? 'no PostgreSQL on this machine' : false }, () => {
    if (storage === null) return;
    after(() => storage.remove());
    for (const { what, bytesMax, ...load } of loads) {
      it(`${what} allocates no more than its budget; with ${wastedBytes} bytes more it would`, async () => {
        const spent = await allocated(storage, load);
        const preload = ['--import', `data:text/javascript,${encodeURIComponent(wasteful(wastedBytes * load.events))}`];
        const wasted = await allocated(storage, load, preload);
        assert.ok(wasted > bytesMax[engine], `${wasted} bytes with waste and ${spent} without: it was not seen`);
        assert.ok(spent <= bytesMax[engine], `${spent} bytes, and ${bytesMax[engine]} are allowed`);
      });
    }
  });
}

/** Bytes an event: the median of several rounds, since what happens beside the requests is in some of them. */
async function allocated(
  storage: TestStorage,
  { requests, events, send }: Omit<Load, 'what' | 'bytesMax'>,
  nodeFlags: readonly string[] = [],
): Promise<number> {
  const node = await spawnNode(storage, [], [...roomToCollectNothing, ...nodeFlags]);
  try {
    const admin = new Client(node.address, adminToken);
    const org = await createOrg(node.address);
    const sendAll = (): Promise<Answer[]> => Promise.all(Array.from({ length: requests }, () => send(org)));
    for (let round = 0; round < warmUpRounds; round++) await sendAll();
    const measured: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const before = await readHeap(admin);
      const answers = await sendAll();
      assert.ok(answers.every(({ status }) => status === (events === 1 ? 201 : 200)));
      const heap = await readHeap(admin);
      if (heap.collections === before.collections) measured.push((heap.bytes - before.bytes) / requests / events);
    }
    assert.ok(
      measured.length > rounds / 2,
      `the heap was collected in ${rounds - measured.length} of ${rounds} rounds`,
    );
    return Math.round(measured.toSorted((a, b) => a - b)[measured.length >> 1] ?? Number.NaN);
  } finally {
    await node.end('SIGTERM');
  }
}

async function readHeap(admin: Client): Promise<{ readonly bytes: number; readonly collections: number }> {
  const { text } = await admin.get('/metrics');
  const values = (name: string): number[] =>
    [...text.matchAll(new RegExp(`^${name}(?:\\{.*\\})? (\\S+)$`, 'gm'))].map(([, value]) => Number(value));
  const [bytes = Number.NaN] = values('nodejs_heap_size_used_bytes');
  const collections = values('nodejs_gc_duration_seconds_count').reduce((sum, count) => sum + count, 0);
  return { bytes, collections };
}
