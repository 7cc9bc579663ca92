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
import type { TestStorage } from '../support/storage.js';

after(stopServers);

const youngMegabytes = 128;
const roomToCollectNothing = [`--max-semi-space-size=${youngMegabytes}`, `--min-semi-space-size=${youngMegabytes}`];
/** For the control: each request leaves so much more behind. */
const wasteful = (bytes: number): string => `
  import { Server } from 'node:http';
  const { emit } = Server.prototype;
  const doubles = Array.from({ length: ${bytes / 8} }, () => 0.5).map((half) => half * 1.1);
  Server.prototype.emit = function (name, ...rest) {
    if (name === 'request' && rest[0].method === 'POST') globalThis.wasted = doubles.slice();
    return emit.call(this, name, ...rest);
  };`;

const event = { type: 'user.created', payload: { user_id: '12345', text: 'x'.repeat(235) } };
const batch = Array.from({ length: 100 }, () => event);
/** Until functions are compiled as they will stay, they allocate more. */
const warmUpRounds = 40;
const rounds = 7;

interface Load {
  readonly what: string;
  /** In a round, one after the other: each is a commit of its own, on any machine. */
  readonly requests: number;
  readonly events: number;
  readonly bytesMax: number;
  readonly send: (org: TestOrg) => Promise<Answer>;
}

const loads: readonly Load[] = [
  {
    what: 'an event alone, with its commit',
    requests: 20,
    events: 1,
    bytesMax: 90_000,
    send: ({ client }) => client.post('/v1/events', event),
  },
  {
    what: 'an event of a batch of 100',
    requests: 5,
    events: 100,
    bytesMax: 5_000,
    send: ({ client }) => client.post('/v1/events/batch', batch),
  },
];

for (const engine of engineNames) {
  const storage = await createStorage(engine);
  describe(`on ${engine}`, { skip: storage === null ? 'no PostgreSQL on this machine' : false }, () => {
    if (storage === null) return;
    after(() => storage.remove());
    for (const { what, bytesMax, ...load } of loads) {
      it(`${what} allocates no more than its budget; and one that wasted as much again would be found`, async () => {
        const spent = await allocated(storage, load);
        assert.ok(spent <= bytesMax, `${spent} bytes, and ${bytesMax} are allowed`);
        // As much as the whole budget: how far two nodes differ by chance, which is some thousand bytes, decides nothing.
        const preload = ['--import', `data:text/javascript,${encodeURIComponent(wasteful(bytesMax * load.events))}`];
        const wasted = await allocated(storage, load, preload);
        assert.ok(wasted > bytesMax, `${wasted} bytes, and so many are allowed`);
      });
    }
  });
}

describe('V8 considers no place in the code for making what it makes in the old generation, where it would keep the rest of a request', () => {
  /** Told at each minor collection. */
  const traced = ['--trace-gc', '--trace-pretenuring-statistics'];
  const considered = async (preload: string): Promise<boolean> => {
    const storage = await createStorage('embedded');
    if (storage === null) throw new Error('no embedded engine');
    try {
      const preloaded = ['--import', `data:text/javascript,${encodeURIComponent(preload)}`];
      const node = await spawnNode(storage, [], [...traced, ...preloaded]);
      try {
        const { client } = await createOrg(node.address);
        for (let sent = 0; sent < 50; sent++) assert.equal((await client.post('/v1/events/batch', batch)).status, 200);
      } finally {
        await node.end('SIGTERM');
      }
      assert.match(node.output(), /ms: Scavenge/);
      return node.output().includes('pretenuring: AllocationSite');
    } finally {
      await storage.remove();
    }
  };

  it('in a node as it comes; with V8 left to its own it would', async () => {
    assert.equal(await considered(''), false);
    const leaveToV8 = `
      import v8 from 'node:v8';
      import { syncBuiltinESMExports } from 'node:module';
      v8.setFlagsFromString = () => {};
      syncBuiltinESMExports();`;
    assert.equal(await considered(leaveToV8), true);
  });
});

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
    const sendAll = async (): Promise<void> => {
      for (let sent = 0; sent < requests; sent++) assert.equal((await send(org)).status, events === 1 ? 201 : 200);
    };
    for (let round = 0; round < warmUpRounds; round++) await sendAll();
    const measured: number[] = [];
    for (let round = 0; round < rounds; round++) {
      // What the reading of the heap itself takes is in both differences.
      const first = await readHeap(admin);
      const before = await readHeap(admin);
      await sendAll();
      const heap = await readHeap(admin);
      const bytes = heap.bytes - before.bytes - (before.bytes - first.bytes);
      if (heap.collections === first.collections) measured.push(bytes / requests / events);
    }
    const collected = rounds - measured.length;
    assert.ok(measured.length > rounds / 2, `the heap was collected in ${collected} of ${rounds} rounds`);
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
