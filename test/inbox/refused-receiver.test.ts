import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Database } from '../../src/db/database.js';
import { Problem } from '../../src/errors.js';
import type { ErrorCode } from '../../src/errors.js';
import { Wakeups } from '../../src/event-log/wakeups.js';
import { Inbox } from '../../src/inbox/inbox.js';
import type { Answer } from '../support/client.js';
import { Client, createOrg } from '../support/client.js';
import { onClockedNodes } from '../support/clocked-nodes.js';
import { signal } from '../support/conformance.js';
import { adminToken } from '../support/node.js';
import { assertProblem } from '../support/problem.js';
import { TestClock } from '../support/test-clock.js';
import { receive, send, untilWaiting } from './consumer.js';

/** After this much time of the server, whatever is asked of the storage meanwhile answered, a refusal is known. */
const checkMs = 500;

await onClockedNodes(({ addresses, address, advance }) => {
  const admin = (): Client => new Client(address(), adminToken);

  /** Moves the time on until the answer is there. */
  const whileTimeGoesOn = async (answer: Promise<Answer>): Promise<Answer> => {
    const state = { answered: false };
    const end = (): void => {
      state.answered = true;
    };
    answer.then(end, end);
    while (!state.answered) {
      advance(checkMs);
      // What was asked meanwhile is answered before the time goes on, or it would seem to take seconds.
      for (let round = 0; round < 3; round++) {
        for (const node of addresses()) await new Client(node, adminToken).get('/v1/orgs');
      }
    }
    return answer;
  };

  const waitingOnEachNode = async (key: string): Promise<Promise<Answer>[]> => {
    const answers = addresses().map((node) => new Client(node, key).post('/v1/inbox/receive', { wait_seconds: 30 }));
    for (const node of addresses()) await untilWaiting(node, 1);
    return answers;
  };

  const endings: readonly (readonly [string, ErrorCode, (org: string, key: string) => [string, string, unknown?]])[] = [
    ['its org is suspended', 'org_suspended', (org) => ['PATCH', `/v1/orgs/${org}`, { suspended: true }]],
    ['its org is deleted', 'invalid_key', (org) => ['DELETE', `/v1/orgs/${org}`]],
  ];
  for (const [what, code, request] of endings) {
    test(`a receiver that waits is refused, on every node, when ${what}`, async () => {
      const org = await createOrg(address());
      const answers = await waitingOnEachNode(org.key);
      assert.ok((await admin().call(...request(org.id, org.keyId))).status < 300);
      for (const answer of answers) assertProblem(await whileTimeGoesOn(answer), code);
      for (const node of addresses()) await untilWaiting(node, 0);
    });
  }

  test('a receiver that waits is refused when its key is revoked; one with another key of the org gets the event', async () => {
    const { client } = await createOrg(address());
    const { json } = await client.post('/v1/keys', { name: 'consumer', scopes: ['inbox:consume'] });
    const answers = await waitingOnEachNode(json.key);
    assert.equal((await client.call('DELETE', `/v1/keys/${json.id}`)).status, 204);
    for (const answer of answers) assertProblem(await whileTimeGoesOn(answer), 'invalid_key');
    const living = receive(client, { wait_seconds: 30 });
    await untilWaiting(address(), 1);
    const [id] = await send(client, [{}]);
    assert.equal((await living).json.data[0].id, id);
  });

  test('what falls due for a suspended org is leased to nobody who waits', async () => {
    const { id: org, client, key } = await createOrg(address());
    await send(client, [{}]);
    await receive(client, { lease_seconds: 1 });
    const answers = await waitingOnEachNode(key);
    await admin().call('PATCH', `/v1/orgs/${org}`, { suspended: true });
    advance(1_000);
    for (const answer of answers) assertProblem(await whileTimeGoesOn(answer), 'org_suspended');
    await admin().call('PATCH', `/v1/orgs/${org}`, { suspended: false });
    advance(checkMs);
    // The second attempt: nobody has had one in between.
    assert.equal((await receive(client)).json.data[0].attempt, 2);
  });
});

test('a receiver that is woken asks whether it is still allowed before it looks', async () => {
  const wakeups = new Wakeups();
  const looked = signal();
  let looks = 0;
  const transaction = (): Promise<unknown> => {
    looks++;
    looked.fire();
    return Promise.resolve({ events: [], attempt: 1, moreDue: false, nextDueAtMs: null });
  };
  const database = { engine: 'embedded', transaction } as unknown as Database;
  const inbox = new Inbox(database, new TestClock(), wakeups, () => {});
  const refusal = new Problem('org_suspended', 'test');
  const received = inbox.receive('1', 0, {
    eventsMax: 1,
    waitSeconds: 30,
    leaseSeconds: 60,
    wantsPayload: true,
    signal: new AbortController().signal,
    stillAllowed: () => Promise.reject(refusal),
  });
  await looked.promise;
  wakeups.wake('1');
  await assert.rejects(received, refusal);
  assert.deepEqual([looks, wakeups.waiting], [1, 0]);
});
