/** Files, pipes and the log as it grows, on a real server. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import type { RunningServer } from '../../src/app.js';
import { createOrg } from '../support/client.js';
import type { TestOrg } from '../support/client.js';
import { startNode } from '../support/node.js';
import { createStorage } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';
import { begin, sluice } from './sluice.js';

let storage: TestStorage | null;
let server: RunningServer;

before(async () => {
  storage = await createStorage('embedded');
  assert.ok(storage !== null);
  server = await startNode(storage);
});

after(async () => {
  await server.stop();
  await storage?.remove();
});

/** An org of its own, and what names it to a command. */
async function newOrg() {
  const org = await createOrg(server.address);
  return { org, environment: { SLUICE_URL: server.address, SLUICE_KEY: org.key } };
}

async function pending({ client }: TestOrg): Promise<number> {
  const { json } = await client.get('/v1/inbox/stats');
  return json.pending;
}

test('send --file stores the lines in batches, counts them, and names those that were refused', async (t) => {
  const { org, environment } = await newOrg();
  const folder = await mkdtemp(join(tmpdir(), 'sluice-send-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const file = join(folder, 'events.ndjson');
  const line = (n: number): string => `{"type":"a.b","payload":${n},"dedup_id":"d${n}"}`;
  const lines = Array.from({ length: 1_500 }, (_, n) => line(n));
  // Lines 4 and 5 are a repeat and an empty one, which does not count; the last one has no line break.
  lines.splice(3, 0, line(0), '');
  lines.push('{"type":"a b","payload":1}', 'not json');
  const bytes = Buffer.concat([
    Buffer.from(`\uFEFF${lines.join('\r\n')}\n`),
    Buffer.from([0xff, 0x0a]),
    Buffer.from(line(9_999)),
  ]);
  await writeFile(file, bytes);

  const sent = await sluice(['send', '--file', file], { environment });
  assert.equal(sent.code, 1);
  const [counts, ...refused] = sent.stderr.trimEnd().split('\n');
  assert.equal(counts, '1505 lines: 1501 stored, 1 duplicate, 3 refused.');
  const expected = [
    /^line 1503: \/type: must consist of .* \(validation_failed\)$/,
    /^line 1504: .*JSON.* \(invalid_json\)$/,
    /^line 1505: The line is not UTF-8\. \(invalid_utf8\)$/,
  ];
  assert.equal(refused.length, expected.length);
  for (const [i, pattern] of expected.entries()) assert.match(refused[i] ?? '', pattern);
  assert.equal(await pending(org), 1_501);

  const again = await sluice(['send', '-'], { environment, input: `${line(0)}\n${line(1)}\n` });
  assert.deepEqual([again.code, again.stderr], [0, '2 lines: 0 stored, 2 duplicate, 0 refused.\n']);
});

test('a pipe that stays open gets its events stored as they come', async (t) => {
  const { org, environment } = await newOrg();
  const child = begin(['send', '-'], environment);
  t.after(() => child.kill('SIGKILL'));
  for (const n of [1, 2]) {
    child.stdin?.write(`{"type":"a.b","payload":${n}}\n`);
    // Ends only if it is stored while the pipe is open.
    while ((await pending(org)) < n) await new Promise(setImmediate);
  }
  child.stdin?.end();
  const [code] = (await once(child, 'close')) as [number | null];
  assert.equal(code, 0);
});

test('a line that is longer than any event is refused without being kept', async () => {
  const { environment } = await newOrg();
  const input = Buffer.concat([Buffer.alloc(3 * 1024 * 1024, 'x'), Buffer.from('\n{"type":"a.b","payload":1}\n')]);
  const { code, stderr } = await sluice(['send', '-'], { environment, input });
  assert.equal(code, 1);
  assert.match(stderr, /^2 lines: 1 stored, 0 duplicate, 1 refused\.\nline 1: .*more than 1048576 bytes/);
});

test('tail writes what is stored from now on, each event once, until it is ended', async (t) => {
  const { org, environment } = await newOrg();
  const send = (type: string, payload: string) =>
    org.client.post('/v1/events', `{"type":"${type}","payload":${payload}}`);
  await send('old.event', '0');
  const child = begin(['tail', '--type', 'order.*'], environment);
  t.after(() => child.kill('SIGKILL'));
  const seen: string[] = [];
  let more = (): void => {};
  if (child.stdout === null) throw new Error('unreachable: it is a pipe');
  createInterface(child.stdout).on('line', (line) => {
    seen.push(line);
    more();
  });
  const until = async (count: number): Promise<void> => {
    while (seen.length < count) await new Promise<void>((resolve) => (more = resolve));
  };
  // It has begun when it shows an event; what it began after is not known before.
  let first = 0;
  while (seen.length === 0) await send('order.paid', `{"n":1.${first++}0}`);
  await send('user.created', '1');
  const shown = seen.length;
  await send('order.sent', '{"last":1.00}');
  await until(shown + 1);
  while (!seen.at(-1)?.includes('last')) await until(seen.length + 1);
  child.kill('SIGINT');
  const [code] = (await once(child, 'close')) as [number | null];
  assert.equal(code, 0);
  const ids = seen.map((line) => (JSON.parse(line) as { id: string }).id);
  assert.deepEqual(ids, [...new Set(ids)].toSorted());
  assert.ok(seen.at(-1)?.endsWith('"payload":{"last":1.00}}'));
  assert.ok(seen.every((line) => line.includes('"type":"order.')));
});

test('inboxes are made, listed and deleted', async () => {
  const { environment } = await newOrg();
  const names = async () => (await sluice(['inboxes', 'list'], { environment })).json().map(({ name }) => name);
  const args = ['orders', '--types', 'order.*,user.created', '--start', 'beginning', '--max-attempts', '3'];
  const [made] = (await sluice(['inboxes', 'create', ...args], { environment })).json();
  assert.deepEqual([made.name, made.types, made.max_attempts], ['orders', ['order.*', 'user.created'], 3]);
  assert.deepEqual(await names(), ['default', 'orders']);
  assert.equal((await sluice(['inboxes', 'delete', 'orders'], { environment })).code, 0);
  assert.deepEqual(await names(), ['default']);
});

test('smoke with a key goes its way in an inbox of its own, and deletes it', async () => {
  const { org, environment } = await newOrg();
  const { code, stdout, stderr } = await sluice(['smoke'], { environment });
  assert.deepEqual([code, stderr], [0, ''], stdout);
  assert.match(stdout, /with an inbox of its own\n[^]*byte for byte\n[^]*works\.\n$/);
  const { json } = await org.client.get('/v1/inboxes');
  assert.deepEqual(
    json.data.map(({ name }: { name: string }) => name),
    ['default'],
  );
});
