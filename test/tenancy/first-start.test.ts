import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import type { TestContext } from 'node:test';
import type { RunningServer } from '../../src/app.js';
import { Client, createOrg } from '../support/client.js';
import { adminToken, startNode } from '../support/node.js';
import { createStorage, stopServers } from '../support/storage.js';

after(stopServers);

test('a key that was never shown is replaced at the next start; once one was shown, there is none', async (t) => {
  const start = await emptyFolder(t);
  const unseen = await start();
  const unseenKey = shownKey(unseen);
  await unseen.stop();

  const seen = await start();
  const seenKey = shownKey(seen);
  assert.notEqual(seenKey, unseenKey);
  const org = await orgOf(seen, seenKey);
  assert.equal((await new Client(seen.address, unseenKey).get('/v1/org')).status, 401);
  assert.deepEqual(await orgNames(seen), ['demo']);
  await seen.announced();
  await seen.stop();

  const later = await start();
  assert.equal(later.firstStart, null);
  assert.equal((await orgOf(later, seenKey)).id, org.id);
  assert.deepEqual(await orgNames(later), ['demo']);
});

test('where somebody has made an org, no key is shown and no org is made', async (t) => {
  const start = await emptyFolder(t);
  const unseen = await start();
  await createOrg(unseen.address, 'free', 'theirs');
  await unseen.stop();

  const later = await start();
  assert.equal(later.firstStart, null);
  assert.deepEqual((await orgNames(later)).toSorted(), ['demo', 'theirs']);
});

test('where the one org there is is not the demo, no key is shown and no org is made', async (t) => {
  const start = await emptyFolder(t);
  const unseen = await start();
  const { id } = await orgOf(unseen, shownKey(unseen));
  const renamed = await admin(unseen).call('PATCH', `/v1/orgs/${id}`, { name: 'mine' });
  assert.equal(renamed.status, 200, renamed.text);
  await unseen.stop();

  const later = await start();
  assert.equal(later.firstStart, null);
  assert.deepEqual(await orgNames(later), ['mine']);
});

/** Starts a node in one folder, empty at first, again and again. */
async function emptyFolder(t: TestContext): Promise<() => Promise<RunningServer>> {
  const storage = await createStorage('embedded');
  assert.ok(storage !== null);
  const nodes: RunningServer[] = [];
  t.after(async () => {
    for (const node of nodes) await node.stop();
    await storage.remove();
  });
  return async () => {
    const node = await startNode(storage);
    nodes.push(node);
    return node;
  };
}

function shownKey({ firstStart }: RunningServer): string {
  assert.ok(firstStart !== null);
  assert.equal(firstStart.orgName, 'demo');
  return firstStart.key;
}

async function orgOf({ address }: RunningServer, key: string): Promise<{ readonly id: string }> {
  const { status, json, text } = await new Client(address, key).get('/v1/org');
  assert.equal(status, 200, text);
  return json;
}

function admin({ address }: RunningServer): Client {
  return new Client(address, adminToken);
}

async function orgNames(node: RunningServer): Promise<string[]> {
  const { json } = await admin(node).get('/v1/orgs');
  return json.data.map(({ name }: { name: string }) => name);
}
