import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, it } from 'node:test';
import { createOrg } from '../support/client.js';
import { openDatabase } from '../support/log.js';
import { startNode } from '../support/node.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';

after(stopServers);

for (const engine of engineNames) {
  it(`of a key, nothing but its SHA-256 is stored (${engine})`, async (t) => {
    const storage = await createStorage(engine);
    if (storage === null) return t.skip('no PostgreSQL on this machine');
    t.after(() => storage.remove());
    const secrets = await useKeys(storage);
    const dump = await everythingStored(storage);
    for (const secret of secrets) {
      const random = secret.slice('slk_live_'.length);
      const bytes = Buffer.from(random, 'base64url');
      const forms = [
        Buffer.from(random),
        bytes,
        Buffer.from(bytes.toString('hex')),
        Buffer.from(bytes.toString('base64')),
      ];
      assert.deepEqual(
        forms.map((form) => dump.includes(form)),
        [false, false, false, false],
      );
      // The hash is there, so the search finds what is stored.
      const digest = hash('sha256', secret, 'buffer');
      assert.ok(dump.includes(digest) || dump.includes(digest.toString('hex')));
    }
  });
}

/** Makes, uses and rotates keys, and ends the node. Returns the secrets that are still good. */
async function useKeys(storage: TestStorage): Promise<string[]> {
  const node = await startNode(storage);
  try {
    const { client, key } = await createOrg(node.address);
    const made = await client.post('/v1/keys', { name: 'made' });
    const turned = await client.post('/v1/keys', { name: 'to be rotated' });
    const rotated = await client.post(`/v1/keys/${turned.json.id}/rotate`, { grace_seconds: 3_600 });
    const secrets = [key, made.json.key, turned.json.key, rotated.json.key];
    for (const secret of secrets)
      assert.equal((await client.get('/v1/org', { Authorization: `Bearer ${secret}` })).status, 200);
    return secrets;
  } finally {
    await node.stop();
  }
}

/** Every byte of the data folder, or, on a server, every row of every table as text. */
async function everythingStored(storage: TestStorage): Promise<Buffer> {
  const { dataDir, databaseUrl } = storage.config;
  if (databaseUrl === null) {
    const files = readdirSync(dataDir, { recursive: true, withFileTypes: true }).filter((file) => file.isFile());
    return Buffer.concat(files.map((file) => readFileSync(join(file.parentPath, file.name))));
  }
  const database = await openDatabase(storage);
  try {
    const text = `
      SELECT query_to_xml(format('SELECT * FROM %s', oid::regclass), true, false, '')::text AS dump
      FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace`;
    const { rows } = await database.transaction({ role: 'owner' }, async (tx) => {
      await tx.script('SET LOCAL xmlbinary = hex');
      return tx.query<{ dump: string }>({ name: 'test_dump', text });
    });
    const dump = rows.map((row) => row.dump).join('\n');
    // Bytes are spelled in upper case there, and text as it is.
    return Buffer.from(dump + dump.toLowerCase());
  } finally {
    await database.close();
  }
}
