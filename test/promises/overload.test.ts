/** P7: overload is refused, not suffered. A storage that stands still, and several times as much as may wait for it. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { composeServer } from '../../src/compose.js';
import { createLogger } from '../../src/log.js';
import type { Answer } from '../support/client.js';
import { Client, createOrg } from '../support/client.js';
import { signal } from '../support/conformance.js';
import { withFaults } from '../support/faulty-database.js';
import { KeepAliveClient } from '../support/keep-alive-client.js';
import { openLog } from '../support/log.js';
import { adminToken, testConfig } from '../support/node.js';
import { assertProblem } from '../support/problem.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { EngineName } from '../support/storage.js';
import { TestClock } from '../support/test-clock.js';

after(stopServers);

const queueBytesMax = 1024 * 1024;
const payloadBytes = 8_192;
/** Four times what may wait. */
const requests = (4 * queueBytesMax) / payloadBytes;
/** How long the storage has stood still when the flood comes. */
const stillMs = 2_500;

/** A node on a storage that takes events only while it is told to. Its own time stands still until it is moved. */
async function startStoppable(engine: EngineName) {
  const storage = await createStorage(engine);
  if (storage === null) return null;
  const database = await openLog(storage);
  const clock = new TestClock();
  const begun = signal();
  let open = Promise.resolve();
  const stoppable = withFaults(database, {
    transaction: async (run) => {
      begun.fire();
      await open;
      return run();
    },
  });
  const config = testConfig(storage, { queueBytesMax });
  const log = createLogger(config.logLevel);
  const stats = () => ({ sessionsInUse: 0, waiting: 0, serviceMs: 0, refused: 0 });
  const node = await composeServer({
    config,
    log,
    onProgress: () => {},
    clock,
    database: stoppable,
    stats,
    embedded: null,
    ingestLanes: 1,
  });
  return {
    address: node.address,
    clock,
    begun: begun.promise,
    /** Returns what makes it go on. */
    stop(): () => void {
      const end = signal();
      open = end.promise;
      return end.fire;
    },
    async end() {
      await node.stop();
      await storage.remove();
    },
  };
}

for (const engine of engineNames) {
  test(`a flood of several times what may wait is refused early, and nothing of the rest is lost, on ${engine}`, async (t) => {
    const node = await startStoppable(engine);
    if (node === null) return t.skip('no PostgreSQL');
    const flood = new KeepAliveClient(node.address, requests, 60_000);
    t.after(async () => {
      flood.close();
      await node.end();
    });
    const [org, other] = [await createOrg(node.address), await createOrg(node.address)];
    const send = (number: number): Promise<Answer> => {
      const event = { type: 'a', dedup_id: `event ${number}`, payload: 'x'.repeat(payloadBytes) };
      const headers = { Authorization: `Bearer ${org.key}`, 'Content-Type': 'application/json' };
      return flood.call('POST', '/v1/events', Buffer.from(JSON.stringify(event)), headers);
    };
    const queued = async (): Promise<{ events: number; bytes: number }> => {
      const { text } = await new Client(node.address, adminToken).get('/metrics');
      const gauge = (name: string): number =>
        Number(new RegExp(`^sluice_ingest_queue_${name} (\\d+)$`, 'm').exec(text)?.[1]);
      return { events: gauge('events'), bytes: gauge('bytes') };
    };

    const goOn = node.stop();
    const first = send(0);
    await node.begun;
    node.clock.advance(stillMs);

    const refused = new Map<number, Answer>();
    const answers = Array.from({ length: requests }, async (_, i) => {
      const answer = await send(i + 1);
      if (answer.status !== 201) refused.set(i + 1, answer);
      return answer;
    });
    // Early: the storage has not taken anything yet, and whoever has no place in the queue has an answer.
    for (let waiting = await queued(); refused.size + waiting.events < requests; waiting = await queued()) {
      assert.ok(waiting.bytes <= queueBytesMax, `${waiting.bytes} bytes wait`);
    }
    assert.ok(refused.size > requests / 2, `${refused.size} of ${requests} are refused`);
    const single = other.client.post('/v1/events', { type: 'a', payload: 1 });
    while ((await queued()).events < requests - refused.size + 1);
    let retryAfterSeconds = 0;
    for (const answer of refused.values()) {
      const { retry_after } = assertProblem(answer, 'overloaded');
      retryAfterSeconds = Math.max(retryAfterSeconds, retry_after ?? 0);
    }
    // As long as the batch has taken that hangs, and one for what waits; never longer than anything may wait.
    assert.ok(retryAfterSeconds > stillMs / 1000 && retryAfterSeconds <= 5, `${retryAfterSeconds} s`);

    goOn();
    assert.equal((await single).status, 201);
    await Promise.all(answers);
    node.clock.advance(retryAfterSeconds * 1000);
    const accepted = [await first, ...(await Promise.all(answers)).filter(({ status }) => status === 201)];
    // In groups that fit: a herd that comes back at once is a new flood.
    const again = [...refused.keys()];
    while (again.length > 0) accepted.push(...(await Promise.all(again.splice(0, requests / 16).map(send))));
    assert.ok(
      accepted.every(({ status }) => status === 201),
      'a request that came again in time was refused',
    );

    const stored: string[] = [];
    for (let cursor = ''; ;) {
      const { json } = await org.client.get(`/v1/events?fields=id&limit=1000${cursor && `&cursor=${cursor}`}`);
      for (const { id } of json.data) stored.push(id);
      if (json.next_cursor === null) break;
      cursor = json.next_cursor;
    }
    assert.deepEqual(stored.toSorted(), accepted.map(({ json }) => String(json.id)).toSorted());
    assert.equal(new Set(stored).size, requests + 1);
  });
}
