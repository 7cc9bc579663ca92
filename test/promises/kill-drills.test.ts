import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { cp, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { createOrg } from '../support/client.js';
import { newLog, openLog } from '../support/log.js';
import { beginNode } from '../support/node.js';
import { flawsOf } from '../support/power-loss/checks.js';
import { Random } from '../support/power-loss/random.js';
import { Ledger } from '../support/power-loss/told.js';
import { decodeTrace } from '../support/power-loss/trace.js';
import type { DrillName, VictimOrder } from '../support/power-loss/victim.js';
import { isNote, victimPath } from '../support/power-loss/victim-run.js';
import { createStorage, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';

/** kill -9 in the middle of what the embedded engine does besides taking events, at a random moment of it. */
const isSoak = process.env['SLUICE_TEST_SOAK'] === '1';
const kills = isSoak ? 60 : 3;
/** How much longer than it took before the work under attack may take before it is killed. */
const slack = 1.2;

const seed = Number(process.env['SLUICE_TEST_SEED'] ?? Date.now() % 2 ** 31);
const random = new Random(seed);

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sluice-kill-'));
});
after(async () => {
  await rm(folder, { recursive: true, force: true });
  await stopServers();
});

describe('nothing acknowledged is lost and every index agrees with its table', () => {
  let storage: TestStorage;
  let orgs: string[];
  /** One for each victim: the kill ends a note in the middle at worst, and then nothing was told. */
  const traces: string[] = [];
  before(async () => {
    const made = await createStorage('embedded');
    assert.ok(made !== null);
    storage = made;
    const database = await openLog(storage);
    orgs = await Promise.all([1, 2].map(() => newLog(database, Date.now())));
    await database.close();
  });
  after(() => storage.remove());

  for (const drill of ['checkpoint', 'vacuum', 'partition creation'] as const) {
    it(`after ${kills} kill -9 during ${drill}`, async (t) => {
      t.diagnostic(`SLUICE_TEST_SEED=${seed}`);
      for (let kill = 0; kill < kills; kill++) {
        const victim = startVictim(drill);
        const [tookMs] = (await once(victim, 'message')) as [number];
        await pause(random.int(tookMs * slack + 1));
        await killed(victim);
      }
      await check();
    });
  }

  it(`after ${kills} kill -9 during recovery, each from the one before`, async (t) => {
    t.diagnostic(`SLUICE_TEST_SEED=${seed}`);
    const first = startVictim('checkpoint');
    const startedAtMs = performance.now();
    await once(first, 'message');
    const tookMs = performance.now() - startedAtMs;
    await killed(first);
    for (let kill = 0; kill < kills; kill++) {
      const victim = startVictim('checkpoint');
      await pause(random.int(tookMs));
      await killed(victim);
    }
    await check();
  });

  it('after a start that was cut short while the engine wrote its own lock file', async () => {
    const pidFile = join(storage.config.dataDir, 'pg', 'postmaster.pid');
    for (const content of ['', '\0\0\0\0']) {
      await writeFile(pidFile, content);
      await (await openLog(storage)).close();
    }
  });

  function startVictim(drill: DrillName) {
    const trace = join(folder, `trace-${traces.length}`);
    const order: VictimOrder = {
      dataDir: storage.config.dataDir,
      trace,
      seed: random.int(2 ** 31),
      steps: 0,
      orgs,
      drill,
      firstEvent: Math.max(0, ...heard().sendings.keys()) + 1,
    };
    traces.push(trace);
    return fork(victimPath, [JSON.stringify(order)], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  }

  /** What the victims have noted so far. */
  function heard(): Ledger {
    const ledger = new Ledger();
    for (const record of traces.filter(existsSync).flatMap((trace) => decodeTrace(readFileSync(trace)))) {
      if (isNote(record)) ledger.hear(record);
    }
    return ledger;
  }

  /** On a copy, because the check writes. */
  async function check(): Promise<void> {
    const ledger = heard();
    const copy = join(folder, 'copy');
    await cp(storage.config.dataDir, copy, { recursive: true, filter: (path) => !path.endsWith('.sock') });
    assert.deepEqual(await flawsOf(copy, ledger, orgs), []);
    assert.ok(ledger.acknowledged > kills, 'hardly an event was acknowledged');
    await rm(copy, { recursive: true });
  }
});

it(`a folder is whole, and nothing else is left, after ${kills} kill -9 of a node during its first start`, async (t) => {
  t.diagnostic(`SLUICE_TEST_SEED=${seed}`);
  const place = (name: string): TestStorage => ({
    engine: 'embedded',
    config: { dataDir: join(folder, name), databaseUrl: null },
    remove: () => rm(join(folder, name), { recursive: true, force: true }),
  });
  const timed = place('timed');
  const startedAtMs = performance.now();
  const node = await beginNode(timed).ready;
  const tookMs = performance.now() - startedAtMs;
  await node.end('SIGTERM');
  const whole = (await readdir(timed.config.dataDir)).toSorted();
  await timed.remove();

  const storage = place('killed');
  for (let kill = 0; kill < kills; kill++) {
    const starting = beginNode(storage);
    await pause(random.int(tookMs));
    await starting.end('SIGKILL');
    // Half of the kills hit a first start; the others what the one before has left.
    if (random.chance(0.5)) await storage.remove();
  }
  const again = await beginNode(storage).ready;
  const { client } = await createOrg(again.address);
  assert.equal((await client.post('/v1/events', { type: 'a', payload: 1 })).status, 201);
  await again.end('SIGTERM');
  assert.deepEqual((await readdir(storage.config.dataDir)).toSorted(), whole);
});

async function killed(child: ReturnType<typeof fork>): Promise<void> {
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  const [code, signal] = (await ended) as [number | null, string | null];
  assert.equal(signal, 'SIGKILL', `it ended by itself before, with ${code}`);
}
