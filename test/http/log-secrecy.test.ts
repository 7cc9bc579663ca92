import assert from 'node:assert/strict';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { TestContext } from 'node:test';
import { gzipSync } from 'node:zlib';
import pg from 'pg';
import { startServer } from '../../src/app.js';
import { createLogger, flushed } from '../../src/log.js';
import type { Answer } from '../support/client.js';
import { Client, createOrg } from '../support/client.js';
import { adminToken, testConfig } from '../support/node.js';
import { exchange } from '../support/raw-http.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { EngineName } from '../support/storage.js';

after(stopServers);

const canary = 'CANARY-of-a-payload';

/** A node that logs everything to a file, and what it wrote there. */
async function startLogging(t: TestContext, engine: EngineName) {
  const storage = await createStorage(engine);
  if (storage === null) return null;
  const folder = mkdtempSync(join(tmpdir(), 'sluice-log-'));
  const path = join(folder, 'log');
  const fd = openSync(path, 'w');
  const log = createLogger('trace', fd);
  const node = await startServer(testConfig(storage, { logLevel: 'trace' }), log, () => {});
  t.after(async () => {
    await node.stop();
    closeSync(fd);
    rmSync(folder, { recursive: true });
    await storage.remove();
  });
  const written = async (): Promise<string> => {
    await flushed(log);
    return readFileSync(path, 'utf8');
  };
  return { node, storage, log, written };
}

async function aborted(admin: Client): Promise<number> {
  const { text } = await admin.get('/metrics');
  return Number(/^sluice_http_requests_aborted_total (\d+)$/m.exec(text)?.[1]);
}

for (const engine of engineNames) {
  test(`on ${engine} a client that leaves in the middle of its body is counted as that, and is no failure`, async (t) => {
    const logging = await startLogging(t, engine);
    if (logging === null) return t.skip('no PostgreSQL on this machine');
    const { node, written } = logging;
    const { key } = await createOrg(node.address);
    const { hostname, port } = new URL(node.address);
    const head = `POST /v1/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${key}\r\nContent-Type: application/json`;
    const admin = new Client(node.address, adminToken);
    for (const framing of ['Content-Length: 100\r\n\r\n{"type"', 'Transfer-Encoding: chunked\r\n\r\n7\r\n{"type"']) {
      const before = await aborted(admin);
      // One that leaves while its key is looked up is no request yet.
      for (let attempt = 1; attempt <= 100 && (await aborted(admin)) === before; attempt++) {
        const socket = connect(Number(port), hostname);
        socket.on('error', () => {});
        socket.write(`${head}\r\nExpect: 100-continue\r\n${framing}`);
        await once(socket, 'data');
        socket.destroy();
      }
      assert.ok((await aborted(admin)) > before, framing);
    }
    const { text: metrics } = await admin.get('/metrics');
    assert.doesNotMatch(metrics, /sluice_http_problems_total\{code="(internal|bad_request)"\}/);
    assert.doesNotMatch(await written(), /request failed/);
  });

  test(`on ${engine} no key, admin token or payload is ever in the log, at its most talkative`, async (t) => {
    const logging = await startLogging(t, engine);
    if (logging === null) return t.skip('no PostgreSQL on this machine');
    const { node, storage, log, written } = logging;
    const { client, key, keyId } = await createOrg(node.address);
    const strangerKey = `slk_live_${'s'.repeat(43)}`;
    const stranger = new Client(node.address, strangerKey);
    const event = { type: 'a', payload: { canary }, dedup_id: 'once', subject: canary };
    const refused: Answer[] = [];

    assert.equal((await client.post('/v1/events', event)).status, 201);
    assert.equal((await client.post('/v1/inbox/receive', { lease_seconds: 1 })).json.data.length, 1);
    assert.ok((await client.get('/v1/inbox')).text.includes(canary));
    const made = await client.post('/v1/keys', { name: canary });
    const rotated = await client.post(`/v1/keys/${made.json.id}/rotate`, {});
    assert.equal((await client.call('DELETE', `/v1/subjects/${canary}`)).status, 202);
    refused.push(
      await client.call('DELETE', `/v1/subjects/${canary.repeat(20)}`),
      await client.post('/v1/events', { ...event, payload: canary }),
      await client.post('/v1/events', { ...event, type: canary.repeat(20) }),
      await client.post('/v1/events', { [canary]: event }),
      await client.post('/v1/events', `{"payload":"${canary}`),
      await client.post('/v1/events', Buffer.from(`"${canary}\xff"`, 'latin1')),
      await client.post('/v1/events', gzipSync(canary).subarray(0, -4), { 'Content-Encoding': 'gzip' }),
      await client.post('/v1/events', canary.repeat(20_000)),
      await client.post('/v1/events', canary, { 'Content-Type': 'text/plain' }),
      await client.post('/v1/inbox/receive', { [canary]: canary }),
      await client.post('/v1/inbox/ack', { ids: canary }),
      await client.get(`/v1/inbox?cursor=${canary}`),
      await client.get(`/v1/inbox?${canary}=${key}`),
      await client.get(`/v1/${key}`),
      await client.get(`/v1/events/${key}`),
      await client.call('DELETE', `/v1/keys/${keyId}/${key}`),
      await client.get('/v1/org', { 'X-API-Key': strangerKey }),
      await stranger.get('/v1/org'),
      await new Client(node.address, adminToken).get('/v1/org'),
      await new Client(node.address, adminToken.slice(1)).get('/v1/orgs'),
      await client.get('/metrics', { 'X-Request-Id': `${key} x` }),
    );
    await exchange(node.address, `GET /v1/org HTTP/1.1\r\nAuthorization: Bearer ${key}\r\nX : ${canary}\r\n\r\n`);
    if (storage.config.databaseUrl !== null) {
      // A server's own refusal of a row quotes the row.
      const superuser = new pg.Client(storage.config.databaseUrl);
      await superuser.connect();
      await superuser.query(`ALTER TABLE events ADD CONSTRAINT none CHECK (type <> 'refused') NOT VALID`);
      await superuser.end();
      const failed = await client.post('/v1/events', { ...event, type: 'refused', dedup_id: 'other' });
      assert.equal(failed.status, 503);
      refused.push(failed);
    }

    assert.ok(refused.every(({ status }) => status >= 400));
    // The check can fail: a line that does hold the canary is found.
    const text = await written();
    for (const { headers } of refused) assert.ok(text.includes(headers.get('x-request-id') ?? 'none'));
    for (const secret of [canary, key, made.json.key, rotated.json.key, strangerKey, adminToken, adminToken.slice(1)]) {
      assert.equal(text.includes(secret), false, `${secret} in: ${lineWith(text, secret)}`);
    }
    log.info({ detail: canary }, 'a line that tells');
    assert.ok((await written()).includes(canary));
  });
}

function lineWith(text: string, part: string): string | undefined {
  return text.split('\n').find((line) => line.includes(part));
}
