/** The examples are programs: each runs as it is, against a server. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { RunningServer } from '../../src/app.js';
import { createOrg } from '../support/client.js';
import type { TestOrg } from '../support/client.js';
import { startNode } from '../support/node.js';
import { createStorage } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';

let storage: TestStorage | null;
let server: RunningServer;
let org: TestOrg;

before(async () => {
  storage = await createStorage('embedded');
  assert.ok(storage !== null);
  server = await startNode(storage);
  org = await createOrg(server.address);
});

after(async () => {
  await server.stop();
  await storage?.remove();
});

interface Running {
  readonly child: ChildProcess;
  readonly said: () => string;
  /** Resolves once it has said that. */
  readonly saying: (pattern: RegExp) => Promise<void>;
  readonly code: Promise<number | null>;
}

function run(name: string): Running {
  const path = fileURLToPath(new URL(`../../examples/${name}.js`, import.meta.url));
  const { PATH = '' } = process.env;
  const child = spawn(process.execPath, [path], { env: { PATH, SLUICE_URL: server.address, SLUICE_KEY: org.key } });
  after(() => void child.kill('SIGKILL'));
  let said = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      said += text;
      child.emit('said');
    });
  }
  const code = once(child, 'close').then(([end]: (number | null)[]) => end ?? null);
  return {
    child,
    said: () => said,
    code,
    async saying(pattern) {
      const ended = code.then(() => true);
      while (!pattern.test(said)) {
        if (await Promise.race([once(child, 'said').then(() => false), ended])) break;
      }
      assert.match(said, pattern);
    },
  };
}

test('send stores its event once, however often it runs', async () => {
  for (const told of [/^evt_\w+ is stored: fsync\n$/, /^evt_\w+ was stored before\n$/]) {
    const { code, said } = run('send');
    assert.equal(await code, 0, said());
    assert.match(said(), told);
  }
});

test('consume handles what is there and what comes, and ends cleanly on a signal', async () => {
  const { child, code, said, saying } = run('consume');
  await saying(/^user\.created evt_\w+: \{"user_id":"12345"\}$/m);
  await org.client.post('/v1/events', { type: 'b.c', payload: 'while it runs' });
  await saying(/"while it runs"/);
  child.kill('SIGTERM');
  assert.equal(await code, 0, said());
  assert.match(said(), /\nended\n$/);
  const { json } = await org.client.get('/v1/inbox/stats');
  assert.deepEqual([json.pending, json.leased], [0, 0]);
});

test('send-many sends all that it makes, once', async () => {
  for (const counts of ['2500 stored, 0 had', '0 stored, 2500 had']) {
    const { code, said } = run('send-many');
    assert.equal(await code, 0, said());
    assert.ok(said().endsWith(`${counts} been stored before\n`), said());
  }
});
