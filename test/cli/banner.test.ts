import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { text as readAll } from 'node:stream/consumers';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { promisify } from 'node:util';
import { bannerLines, printBanner, shellQuote } from '../../src/cli/banner.js';

type Announced = Parameters<typeof bannerLines>[0];

const key = 'slk_live_abc-DEF_123';
const first: Announced = {
  address: 'http://127.0.0.1:8080',
  engine: 'embedded',
  role: 'all',
  dataDir: '/data',
  adminToken: { value: 'the-admin-token', path: '/data/admin-token', isNew: true },
  firstStart: { orgName: 'demo', key },
};
const later: Announced = { ...first, firstStart: null, adminToken: { ...first.adminToken, isNew: false } };
const onPostgres: Announced = {
  ...later,
  engine: 'postgres',
  dataDir: null,
  adminToken: { value: 'x', path: null, isNew: false },
};

const texts = (server: Announced): string[] => bannerLines(server).map((line) => line.text);
const commands = (server: Announced): string[] => texts(server).filter((text) => text.startsWith('curl '));

interface Heard {
  readonly method: string | undefined;
  readonly url: string | undefined;
  readonly authorization: string | undefined;
  readonly body: string;
}

/** A server that answers `answer` to everything and remembers what it heard. */
async function listener(t: TestContext, answer: string): Promise<{ address: string; heard: Heard[] }> {
  const heard: Heard[] = [];
  const server = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8').on('data', (text: string) => (body += text));
    request.on('end', () => {
      heard.push({ method: request.method, url: request.url, authorization: request.headers.authorization, body });
      response.end(answer);
    });
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a TCP listener has an AddressInfo
  return { address: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, heard };
}

const sh = async (command: string): Promise<void> => void (await promisify(execFile)('sh', ['-c', command]));

test('one line says ready, with the address', () => {
  for (const server of [first, later, onPostgres, { ...first, address: 'http://[::1]:8080' }]) {
    const ready = texts(server).filter((text) => text.includes('ready'));
    assert.deepEqual(ready, [`Sluice is ready at ${server.address}`]);
  }
});

test('the first start shows the key, what it is worth, and the commands send, receive and acknowledge', () => {
  const shown = texts(first).join('\n');
  assert.match(shown, /shown only now/);
  assert.ok(texts(first).includes(`  ${key}`));
  assert.deepEqual(
    commands(first).map((command) => /'http:\/\/127\.0\.0\.1:8080(\/v1\/[a-z/]+)'/.exec(command)?.[1]),
    ['/v1/events', '/v1/inbox/receive', '/v1/inbox/ack'],
  );
});

test('the data folder, the admin token and the way to PostgreSQL are named; the token itself only when it is new', () => {
  assert.ok(texts(first).join('\n').includes('the-admin-token'));
  for (const server of [first, later]) {
    const shown = texts(server).join('\n');
    assert.match(shown, /Data: in \/data,/);
    assert.match(shown, /\/data\/admin-token/);
    assert.match(shown, /DATABASE_URL=postgres:\/\/user:password@host:5432\/sluice SLUICE_ADMIN_TOKEN=.* npm start/);
  }
  assert.equal(texts(later).join('\n').includes('the-admin-token'), false);
});

test('commands are one line each, neither indented nor coloured, and valid for sh', () => {
  for (const server of [first, later, onPostgres]) {
    const count = server.firstStart !== null ? 3 : server.engine === 'postgres' ? 1 : 2;
    assert.equal(commands(server).length, count);
    for (const command of commands(server)) {
      assert.match(command, /^[\x20-\x7e]+$/);
      execFileSync('sh', ['-n', '-c', command]);
    }
  }
});

test('the commands of the first start work as pasted: the acknowledgement names the ids that are leased', async (t) => {
  const { address, heard } = await listener(t, '{"data":[{"id":"evt_0A1"},{"id":"evt_0B2"}],"next_cursor":null}');
  for (const command of commands({ ...first, address })) await sh(command);
  const authorization = `Bearer ${key}`;
  assert.deepEqual(heard, [
    { method: 'POST', url: '/v1/events', authorization, body: '{"type":"user.created","payload":{"user_id":"12345"}}' },
    { method: 'POST', url: '/v1/inbox/receive', authorization, body: '{"max":10,"lease_seconds":3600}' },
    { method: 'GET', url: '/v1/inbox?status=leased&fields=id', authorization, body: '' },
    { method: 'POST', url: '/v1/inbox/ack', authorization, body: '{"ids":["evt_0A1","evt_0B2"]}' },
  ]);
});

test('later starts tell how to make a key, and the command finds the admin token in any folder', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-banner-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const { address, heard } = await listener(t, '{}');
  for (const name of ['plain', 'with space', "it's", '"quoted"', '$HOME', '`id`', 'back\\slash', '*;&|']) {
    const dataDir = join(folder, name);
    mkdirSync(dataDir);
    const path = join(dataDir, 'admin-token');
    writeFileSync(path, `token of ${name}\n`);
    const server: Announced['adminToken'] = { value: '', path, isNew: false };
    const command = commands({ ...later, address, dataDir, adminToken: server }).find((line) =>
      line.includes('/v1/orgs'),
    );
    assert.ok(command !== undefined);
    await sh(command);
    assert.equal(heard.at(-1)?.authorization, `Bearer token of ${name}`);
    assert.equal(heard.at(-1)?.body, '{"name":"another"}');
  }
});

test('a quoted word is one word to sh, whatever is in it', () => {
  for (const word of ['', 'a b', "'", "''", 'a\'b"c$d`e\\f', '-n', '!']) {
    assert.equal(execFileSync('sh', ['-c', `printf %s ${shellQuote(word)}`]).toString(), word);
  }
});

test('only a terminal gets colours, and no command has them even there', async () => {
  for (const [isTTY, expected] of [
    [true, '\u001b[1;32mSluice is ready'],
    [false, 'Sluice is ready'],
  ] as const) {
    const out = Object.assign(new PassThrough(), { isTTY, hasColors: () => true });
    const written = readAll(out);
    await printBanner(bannerLines(first), out);
    out.end();
    assert.ok((await written).startsWith(expected));
    for (const command of commands(first)) assert.ok((await written).includes(`\n${command}\n`));
  }
});
