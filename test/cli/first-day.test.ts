/** The first day with the real program: an empty folder, what it prints pasted into a shell, a clean stop, and a crash. */
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { promisify } from 'node:util';
import { Client } from '../support/client.js';
import { exchange } from '../support/raw-http.js';
import { runChild } from './child.js';
import type { Child } from './child.js';

// What is set for whoever runs the tests is not set for somebody's first start.
for (const name of Object.keys(process.env)) {
  if (name.startsWith('SLUICE_') || name === 'DATABASE_URL') delete process.env[name];
}

const keyPattern = /slk_live_[\w-]{43}/;
const noCurl = spawnSync('curl', ['--version']).error !== undefined;

test('the first day', { timeout: 120_000 }, async (t) => {
  const dataDir = await mkdtemp(join(tmpdir(), 'sluice-first-day-'));
  // Runs before the hooks of later starts, which kill what is left; so it waits for them itself.
  const children: Child[] = [];
  t.after(async () => {
    for (const child of children) child.signal('SIGKILL');
    await Promise.all(children.map((child) => child.ended));
    await rm(dataDir, { recursive: true, force: true });
  });
  const start = async (): Promise<Started> => {
    const child = runChild(t, '../../src/main.js', ['--port', '0', '--data-dir', dataDir]);
    children.push(child);
    // The last part of what it says, so the rest is there too.
    const banner = await child.saw('stdout', /^Data: in .*\n/m);
    const address = /^.*ready.*?(http:\/\/\S+)$/m.exec(banner)?.[1];
    assert.ok(address !== undefined, banner);
    return { child, address, banner };
  };

  const first = await start();
  const key = keyPattern.exec(first.banner)?.[0] ?? '';
  const client = new Client(first.address, key);
  /** The ids of the events that must be there ever after. */
  const acknowledged: string[] = [];
  const pending: string[] = [];

  await t.test('the printed key is one of the org demo, whose log is empty', async () => {
    assert.notEqual(key, '', first.banner);
    const { status, json } = await client.get('/v1/org');
    assert.deepEqual([status, json.name, json.tier], [200, 'demo', 'enterprise']);
    const { json: stats } = await client.get('/v1/inbox/stats');
    assert.deepEqual(stats, { pending: 0, leased: 0, dead: 0, oldest_pending_seconds: null });
    assert.deepEqual((await client.get('/v1/inbox?status=delivered')).json.data, []);
  });

  await t.test('the admin token is in a file that only this user reads, and lists the org', async () => {
    const path = join(dataDir, 'admin-token');
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    const admin = new Client(first.address, (await readFile(path, 'utf8')).trim());
    const { status, json } = await admin.get('/v1/orgs');
    assert.equal(status, 200);
    assert.deepEqual(json.data, [(await client.get('/v1/org')).json]);
  });

  const skip = noCurl && 'NOT TESTED: there is no curl on this machine, so the printed commands were not run';
  await t.test('the printed commands send an event, receive it and acknowledge it', { skip }, async () => {
    const commands = first.banner.split('\n').filter((line) => line.startsWith('curl '));
    assert.equal(commands.length, 3, first.banner);
    const [send = '', receive = '', ack = ''] = commands;
    const sent = await shell(send);
    assert.match(sent.id, /^evt_[0-9A-Za-z]+$/);
    assert.equal(sent.durability, 'fsync');
    const { data } = await shell(receive);
    assert.deepEqual(
      data.map(({ id, type, payload }: Record<string, unknown>) => ({ id, type, payload })),
      [{ id: sent.id, type: 'user.created', payload: { user_id: '12345' } }],
    );
    assert.equal((await shell(ack)).acknowledged, 1);
    acknowledged.push(sent.id);
  });

  await t.test(
    'SIGTERM: a request under way is answered, meanwhile the node is not ready, then it ends with 0',
    async (s) => {
      const finish = await halfSentEvent(s, first.address, key);
      first.child.signal('SIGTERM');
      await first.child.saw('stderr', /"msg":"stopping"/);
      const ready = await exchange(first.address, 'GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
      assert.deepEqual([ready.status, JSON.parse(ready.text).failing], [503, 'draining']);
      const reply = await finish();
      assert.match(reply, /^HTTP\/1\.1 201 /);
      pending.push(/"id":"(evt_\w+)"/.exec(reply)?.[1] ?? '');
      assert.equal(await first.child.ended, 0, first.child.stderr());
    },
  );
  first.child.signal('SIGKILL');
  await first.child.ended;

  await t.test('the second start shows no key; the first one still works, and everything is still there', async () => {
    const second = await start();
    assert.doesNotMatch(second.banner, keyPattern);
    const again = new Client(second.address, key);
    await assertInbox(again, { pending, acknowledged });
    const sent = await again.post('/v1/events', { type: 'user.created', payload: 'just before the crash' });
    assert.equal(sent.status, 201, sent.text);
    pending.push(sent.json.id);
    second.child.signal('SIGKILL');
    assert.equal(await second.child.ended, 'SIGKILL');
  });

  await t.test('so does the third, after a kill -9', async () => {
    const third = await start();
    assert.doesNotMatch(third.banner, keyPattern);
    await assertInbox(new Client(third.address, key), { pending, acknowledged });
    third.child.signal('SIGTERM');
    assert.equal(await third.child.ended, 0, third.child.stderr());
  });
});

interface Started {
  readonly child: Child;
  readonly address: string;
  /** All that it wrote to standard output. */
  readonly banner: string;
}

/** Runs a printed command as somebody would who pastes it; resolves with the reply. */
// Tests read many shapes; a wrong guess fails their assertions.
// oxlint-disable-next-line typescript/no-explicit-any
async function shell(command: string): Promise<any> {
  const { stdout } = await promisify(execFile)('sh', ['-c', command]);
  return JSON.parse(stdout);
}

/** Resolves when the server has read the head of a POST and waits for its body. The function sends that and resolves with the reply. */
async function halfSentEvent(t: TestContext, address: string, key: string): Promise<() => Promise<string>> {
  const { hostname, port } = new URL(address);
  const socket = connect(Number(port), hostname).setEncoding('utf8');
  t.after(() => socket.destroy());
  const body = '{"type":"user.created","payload":"sent while it stops"}';
  const head = [
    'POST /v1/events HTTP/1.1',
    `Host: ${hostname}:${port}`,
    `Authorization: Bearer ${key}`,
    'Content-Type: application/json',
    `Content-Length: ${body.length}`,
    // The server's word that it has begun with this request.
    'Expect: 100-continue',
  ];
  socket.write(`${head.join('\r\n')}\r\n\r\n${body.slice(0, 10)}`);
  const [goOn] = (await once(socket, 'data')) as [string];
  assert.equal(goOn, 'HTTP/1.1 100 Continue\r\n\r\n');
  let reply = '';
  socket.on('data', (text: string) => (reply += text));
  return async () => {
    const closed = once(socket, 'close');
    socket.write(body.slice(10));
    await closed;
    return reply;
  };
}

async function assertInbox(
  client: Client,
  ids: { readonly pending: readonly string[]; readonly acknowledged: readonly string[] },
): Promise<void> {
  for (const [status, expected] of [
    ['pending', ids.pending],
    ['delivered', ids.acknowledged],
  ] as const) {
    const { json, text } = await client.get(`/v1/inbox?status=${status}`);
    assert.deepEqual(
      json.data?.map(({ id }: { id: string }) => id),
      expected,
      text,
    );
  }
}
