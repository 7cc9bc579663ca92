import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { connect } from 'node:net';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { Connections } from '../../src/http/connections.js';
import { Client, createOrg } from '../support/client.js';
import { onEachEngine } from '../support/each-engine.js';
import { adminToken, startNode } from '../support/node.js';
import { assertProblem } from '../support/problem.js';
import { exchange } from '../support/raw-http.js';
import { createStorage } from '../support/storage.js';
import { TestClock } from '../support/test-clock.js';

const connectionsMax = 3;
const get = 'GET /now HTTP/1.1\r\nHost: a\r\n\r\n';
const late = 'GET /late HTTP/1.1\r\nHost: a\r\n\r\n';
/** A request whose body does not come. */
const unfinished = 'POST /late HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{';

/** A server of few connections, whose time stands still. It answers `/now`, and `/late` never. */
async function fewConnections(t: TestContext) {
  const clock = new TestClock();
  const pressure: string[] = [];
  const begun: string[] = [];
  const server = createServer((request, response) => {
    begun.push(request.url ?? '');
    if (request.url === '/now') response.end('{}');
  });
  const connections = new Connections(server, {
    clock,
    connectionsMax,
    onPressure: (what) => pressure.push(what),
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const open = async (request = ''): Promise<Socket> => {
    const opened = once(server, 'connection');
    const arrived = request === '' ? null : once(server, 'request');
    const socket = connect(port, '127.0.0.1').on('error', () => {});
    socket.write(request);
    await opened;
    await arrived;
    return socket;
  };
  return { clock, connections, pressure, begun, open, address: `http://127.0.0.1:${port}` };
}

const closed = (socket: Socket): Promise<unknown> => once(socket.resume(), 'close');

describe('of a server that has as many connections as it may', () => {
  test('the one that has been idle longest gives way to a new one, whether it ever sent a request or not', async (t) => {
    const { clock, connections, pressure, open } = await fewConnections(t);
    const busy = await open(late);
    const answered = await open(get);
    await once(answered, 'data');
    clock.advance(1);
    const silent = await open();
    clock.advance(1_000);
    const third = await open();
    await closed(answered);
    clock.advance(1_000);
    await open();
    await closed(silent);
    assert.deepEqual([pressure, connections.open, connections.idle], [['closed_idle', 'closed_idle'], 3, 2]);
    assert.deepEqual([busy.destroyed, third.destroyed], [false, false]);
  });

  test('one whose request is still arriving after 5 seconds gives way when none is idle', async (t) => {
    const { clock, pressure, open, address } = await fewConnections(t);
    await open(late);
    const slow = await open(unfinished);
    await open(unfinished);
    clock.advance(4_999);
    assertProblem(await exchange(address, ''), 'overloaded');
    clock.advance(1);
    await open();
    await closed(slow);
    assert.deepEqual(pressure, ['refused', 'closed_stalled']);
  });

  test('none that is at work gives way: the new one is told when to come again, and what it sends is not done', async (t) => {
    const { clock, connections, pressure, begun, open, address } = await fewConnections(t);
    for (let i = 0; i < connectionsMax; i++) await open(late);
    clock.advance(60_000);
    assertProblem(await exchange(address, ''), 'overloaded');
    const sending = await open();
    sending.write(get);
    await closed(sending);
    assert.deepEqual(pressure, ['refused', 'refused']);
    assert.deepEqual([begun.length, connections.open], [connectionsMax, connectionsMax]);
  });

  test('one that has just been opened is not closed for the next: its request may be on its way', async (t) => {
    const { clock, open, address } = await fewConnections(t);
    const fresh: Socket[] = [];
    for (let i = 0; i < connectionsMax; i++) fresh.push(await open());
    clock.advance(249);
    assertProblem(await exchange(address, ''), 'overloaded');
    assert.ok(fresh.every((socket) => !socket.destroyed));
  });
});

test('a closed connection is forgotten, whatever it was doing', async (t) => {
  const { connections, open } = await fewConnections(t);
  for (const request of ['', late, unfinished]) {
    const socket = await open(request);
    assert.equal(connections.open, 1);
    socket.destroy();
    while (connections.open > 0) await pause(1);
  }
  assert.equal(connections.idle, 0);
});

await onEachEngine({ connectionsMax: 50 }, ({ node }) => {
  test('a node is full of connections that say nothing or little, and serves everybody else', async (t) => {
    const { address } = node();
    const { client } = await createOrg(address);
    const { hostname, port } = new URL(address);
    const begin = `POST /v1/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${client.credential}\r\n`;
    const head = `${begin}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n`;
    const sockets = Array.from({ length: 300 }, (_, i) => {
      const socket = connect(Number(port), hostname).on('error', () => {});
      // Nothing, a part of the headers, or a part of the body.
      socket.write(['', begin, head][i % 3] ?? '');
      return socket.resume();
    });
    t.after(() => sockets.forEach((socket) => socket.destroy()));
    for (const socket of sockets) if (socket.connecting) await once(socket, 'connect');
    for (let stored = 0; stored < 20;) {
      const answer = await client.post('/v1/events', { type: 'a', payload: stored }).catch(() => null);
      if (answer?.status === 201) stored++;
      // Until the flood is a moment old, its connections look like those of anybody.
      else await pause(10);
    }
    const { text } = await new Client(address, adminToken).get('/metrics');
    const open = Number(/^sluice_http_connections (\d+)$/m.exec(text)?.[1]);
    assert.ok(open > 0 && open <= 50, `${open} are open`);
  });
});

test('a node that stops waits for a request under way, but not for a connection that never sent one', async () => {
  const storage = await createStorage('embedded');
  assert.ok(storage);
  const node = await startNode(storage, { shutdownSeconds: 600 });
  const { client } = await createOrg(node.address);
  const { hostname, port } = new URL(node.address);
  const silent = connect(Number(port), hostname);
  const halfHeard = connect(Number(port), hostname);
  halfHeard.write('GET /healthz HT');
  const body = JSON.stringify({ type: 'a', payload: 'x'.repeat(1_000) });
  const sending = connect(Number(port), hostname).setEncoding('utf8');
  sending.write(
    `POST /v1/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${client.credential}\r\n` +
      `Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: ${body.length}\r\n\r\n`,
  );
  const idle = [silent, halfHeard].map(closed);
  for (const socket of [silent, halfHeard]) if (socket.connecting) await once(socket, 'connect');
  // The request is known to the node once it asks for the body.
  assert.match(String(await once(sending, 'data')), /^HTTP\/1\.1 100 /);
  sending.write(body.slice(0, 10));
  const stopped = node.stop();
  await Promise.all(idle);
  sending.write(body.slice(10));
  assert.match(String(await once(sending, 'data')), /^HTTP\/1\.1 201 [^]*\r\nconnection: close\r\n/i);
  await stopped;
  await storage.remove();
});
