/** The commands that talk to a server, as processes of their own, on a real one. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import type { RunningServer } from '../../src/app.js';
import { createOrg } from '../support/client.js';
import type { TestOrg } from '../support/client.js';
import { adminToken, startNode } from '../support/node.js';
import { createStorage } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';
import { begin, sluice } from './sluice.js';

let storage: TestStorage | null;
let server: RunningServer;
let org: TestOrg;
let environment: Record<string, string>;

before(async () => {
  storage = await createStorage('embedded');
  assert.ok(storage !== null);
  server = await startNode(storage);
  org = await createOrg(server.address);
  environment = { SLUICE_URL: server.address, SLUICE_KEY: org.key };
});

after(async () => {
  await server.stop();
  await storage?.remove();
});

test('an event is sent, received as it was sent, and acknowledged by its lease', async () => {
  const payload = '{"precise": 1.000000000000000000001,\n "a": [ ]}';
  const sent = await sluice(['send', 'user.created', payload, '--dedup-id', 'd1', '--subject', 'user/1'], {
    environment,
  });
  assert.equal(sent.code, 0, sent.stderr);
  const [receipt] = sent.json();
  assert.equal(receipt.duplicate, false);
  const again = await sluice(['send', 'user.created', payload, '--dedup-id=d1'], { environment });
  assert.deepEqual(again.json(), [{ ...receipt, duplicate: true }]);

  const received = await sluice(['receive', '--max', '10', '--lease', '600'], { environment });
  assert.equal(received.code, 0, received.stderr);
  const [event, ...others] = received.json();
  assert.deepEqual([event.id, event.subject, event.attempt, others], [receipt.id, 'user/1', 1, []]);
  assert.ok(received.stdout.endsWith(`"payload":${payload.replace('\n', ' ')}}\n`), received.stdout);
  const command = /sluice (ack --lease \S+)/.exec(received.stderr)?.[1] ?? '';
  const acked = await sluice(command.split(' '), { environment });
  assert.deepEqual([acked.code, acked.json()], [0, [{ acknowledged: 1, already_acknowledged: 0, unknown: [] }]]);
});

test('receive --ack leaves nothing behind, and says so when there is nothing', async () => {
  const { json } = await org.client.post('/v1/events', { type: 'a.b', payload: 1 });
  const received = await sluice(['receive', '--ack'], { environment });
  assert.deepEqual(
    received.json().map(({ id }) => id),
    [json.id],
  );
  const nothing = await sluice(['receive', '--wait', '0'], { environment });
  assert.deepEqual([nothing.code, nothing.stdout, nothing.stderr], [0, '', 'Nothing is pending.\n']);
});

test('ack takes ids, and fails for one that is not known', async () => {
  const { json } = await org.client.post('/v1/events', { type: 'a.b', payload: 1 });
  assert.equal((await sluice(['ack', json.id], { environment })).code, 0);
  const unknown = await sluice(['ack', json.id, 'evt_none'], { environment });
  assert.deepEqual([unknown.code, unknown.json()[0].unknown], [1, ['evt_none']]);
  assert.match(unknown.stderr, /not known to this inbox/);
});

test('keys are made, listed, rotated and deleted', async () => {
  const made = await sluice(['keys', 'create', 'reader', '--scopes', 'events:read,inbox:read'], { environment });
  const [key] = made.json();
  assert.deepEqual(key.scopes, ['events:read', 'inbox:read']);
  const listed = (await sluice(['keys', 'list'], { environment })).json();
  assert.deepEqual(new Set(listed.map(({ id }) => id)), new Set([org.keyId, key.id]));
  const [rotated] = (await sluice(['keys', 'rotate', key.id, '--grace', '60'], { environment })).json();
  assert.notEqual(rotated.key, key.key);
  const refused = await sluice(['send', 'a.b', '1'], { environment: { ...environment, SLUICE_KEY: rotated.key } });
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /events:write.*sluice keys create/s);
  assert.equal((await sluice(['keys', 'delete', rotated.id], { environment })).code, 0);
});

test('orgs are made, shown and changed with the admin token', async () => {
  const asAdmin = { environment: { SLUICE_URL: server.address, SLUICE_ADMIN_TOKEN: adminToken } };
  const [made] = (await sluice(['orgs', 'create', 'acme', '--tier', 'pro'], asAdmin)).json();
  assert.match(made.key, /^slk_live_/);
  const change = ['orgs', 'change', made.id, '--rate', '50', '--mode', 'shadow', '--suspend'];
  const [changed] = (await sluice(change, asAdmin)).json();
  assert.deepEqual([changed.limits, changed.suspended], [{ rate_per_minute: 50, burst: 50, mode: 'shadow' }, true]);
  assert.deepEqual((await sluice(['orgs', 'show', made.id], asAdmin)).json(), [changed]);
  const listed = (await sluice(['orgs', 'list'], asAdmin)).json();
  assert.ok(listed.some(({ id }) => id === made.id));
  const unsure = await sluice(['orgs', 'delete', made.id], asAdmin);
  assert.equal(unsure.code, 2);
  assert.match(unsure.stderr, /would erase the org "acme".*--yes/);
  assert.equal((await sluice(['orgs', 'show', made.id], asAdmin)).code, 0, 'it is still there');
});

test('smoke with the admin token takes an org of its own through the whole way', async () => {
  const { code, stdout } = await sluice(['smoke', server.address, '--admin-token', adminToken]);
  assert.equal(code, 0, stdout);
  const parts = [...stdout.matchAll(/^ok\s+(\w+)/gm)].map(([, part]) => part);
  assert.deepEqual(parts, ['server', 'key', 'event', 'inbox', 'ack']);
});

test('smoke names the part that fails', async () => {
  const badKey = await sluice(['smoke', server.address, '--key', `slk_live_${'x'.repeat(43)}`]);
  assert.equal(badKey.code, 1);
  assert.match(badKey.stdout, /^ok +server .*\nFAILED +key +The server does not know this key/);
  const noServer = await sluice(['smoke', 'http://127.0.0.1:9', '--key', 'k']);
  assert.equal(noServer.code, 1);
  assert.match(noServer.stdout, /^FAILED +server +No server answers at http:\/\/127\.0\.0\.1:9/);
});

const key = 'slk_live_'.padEnd(52, 'x');

/** The first mistakes, each with its exit code and what the one sentence must say. */
const mistakes: readonly (readonly [what: string, args: readonly string[], code: number, told: RegExp])[] = [
  ['no key', ['send', 'a.b', '1'], 2, /^There is no key: give one with --key or SLUICE_KEY;.*\n$/],
  [
    'no server',
    ['send', 'a.b', '1', '--key', key, '--url', 'http://127.0.0.1:59'],
    1,
    /^No server answers at .*; start one with `sluice start`, or name another with --url or SLUICE_URL\.\n$/,
  ],
  [
    'an unknown key',
    ['receive', '--key', key, '--url', 'SERVER'],
    1,
    /^The server does not know this key; give another with --key or SLUICE_KEY\.\n$/,
  ],
  [
    'an admin token that is none',
    ['orgs', 'list', '--admin-token', key, '--url', 'SERVER'],
    1,
    /^The server does not take this admin token; .*\n$/,
  ],
  ['no admin token', ['orgs', 'list', '--key', key], 2, /^There is no admin token: give it with --admin-token .*\n$/],
  [
    'no URL',
    ['send', 'a.b', '1', '--key', key, '--url', 'localhost:8080'],
    2,
    /^The url is to be the address of a server, such as http:.*\n$/,
  ],
  ['no payload', ['send', 'a.b'], 2, /^send needs a type and a payload, such as: sluice send .*\n$/],
  [
    'a payload that is no JSON',
    ['send', 'a.b', 'hello', '--key', key],
    2,
    /^The payload is not JSON; put it in single quotes.*\n$/,
  ],
  ['no id', ['ack', '--key', key], 2, /^ack needs the ids of events, or --lease .*\n$/],
  [
    'a missing argument',
    ['keys', 'delete'],
    2,
    /^keys delete needs ID\nsluice keys delete --help tells how it is used\.\n$/,
  ],
  ['half a command', ['orgs'], 2, /^orgs needs one of list, create, show, change, delete\n/],
  ['a mistyped action', ['keys', 'lst'], 2, /; did you mean list\?\n/],
  ['a mistyped command', ['recieve'], 2, /^recieve: no such command; did you mean receive\?\n/],
  ['a mistyped flag', ['receive', '--inbx', 'a'], 2, /^--inbx: no such flag; did you mean --inbox\?\n/],
  [
    'a number that is none',
    ['receive', '--max', 'many'],
    2,
    /^--max: many is not a number of events; use a whole number from 1 to 1000\n/,
  ],
  [
    'a file that is not there',
    ['send', '--file', '/nowhere/events', '--key', 'OURS', '--url', 'SERVER'],
    1,
    /^0 lines.*\n\/nowhere\/events cannot be read \(ENOENT\)\.\n/,
  ],
  [
    'a refused event',
    ['send', 'a b', '1', '--key', 'OURS', '--url', 'SERVER'],
    1,
    /^\/type: must consist of .* \(validation_failed, request \S+\)\n$/,
  ],
];

for (const [what, args, code, told] of mistakes) {
  test(`${what} is told in a sentence that says what to do next, and no key is repeated`, async () => {
    const given = args.map((argument) => ({ SERVER: server.address, OURS: org.key })[argument] ?? argument);
    const ended = await sluice(given);
    assert.match(ended.stderr, told);
    assert.deepEqual([ended.code, ended.stdout], [code, '']);
    for (const secret of [key, org.key]) assert.equal(ended.stderr.includes(secret), false);
  });
}

test('each command tells how it is used, whatever else is wrong', async () => {
  const { code, stdout } = await sluice(['receive', '--inbx', '--help']);
  assert.equal(code, 0);
  assert.match(stdout, /^Usage: sluice receive .*\n[^]*--wait <seconds>[^]*SLUICE_KEY/);
  const group = await sluice(['orgs', '--help']);
  for (const action of ['list', 'create', 'show', 'change', 'delete']) {
    assert.match(group.stdout, new RegExp(`^Usage: sluice orgs ${action}`, 'm'));
  }
});

test('a variable of the client is no unknown setting of the server', async () => {
  const { stderr } = await sluice(['receive'], { environment: { SLUICE_URL: 'http://127.0.0.1:59', SLUICE_KYE: 'k' } });
  assert.match(stderr, /^SLUICE_KYE is not a setting and has no effect; did you mean SLUICE_KEY\?\nThere is no key/);
});

test('output that nobody reads any more ends a command without a complaint', async () => {
  for (let n = 0; n < 3; n++) await org.client.post('/v1/events', { type: 'a.b', payload: 'x'.repeat(200_000) });
  const child = begin(['receive', '--lease', '1'], environment);
  let complaints = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (complaints += text));
  child.stdout?.once('data', () => child.stdout?.destroy());
  const [code] = (await once(child, 'close')) as [number | null];
  assert.deepEqual([code, complaints], [0, '']);
});
