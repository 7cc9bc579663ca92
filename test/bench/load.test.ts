import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingMessage, RequestListener, Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { fileURLToPath } from 'node:url';
import { runGenerator } from '../../bench/generator-process.js';
import { runPlan, wrkVersion } from '../../bench/load.js';
import type { LoadResult, PlannedLoad } from '../../bench/load.js';
import { fill, rawRequest, requireLoopback, uniqueText } from '../../bench/plan.js';
import type { Plan } from '../../bench/plan.js';
import { eventOf, scenarios } from '../../bench/scenarios.js';

const noWrk = wrkVersion() === null ? 'wrk is not installed' : false;
const key = `slk_live_${'k'.repeat(43)}`;

test('the size of an event is that of its whole body, and the length that is announced is that of the body', () => {
  for (const bytes of [100, 300, 4_096]) assert.equal(Buffer.byteLength(eventOf(bytes)), bytes);
  const values = { key, unique: uniqueText(7), lease: `lse_${'0'.repeat(26)}` };
  for (const scenario of scenarios) {
    const { cycle, consume } = scenario.plan([key], 'run');
    for (const request of [...cycle, ...(consume ? Object.values(consume) : [])]) {
      const text = fill(rawRequest(request, '127.0.0.1:1'), values);
      const [head = '', body = ''] = text.split('\r\n\r\n');
      const announced = /Content-Length: (\d+)/.exec(head)?.[1];
      assert.equal(Number(announced ?? 0), body.length, scenario.name);
      if (request.contentType === 'application/json') assert.ok(JSON.parse(body), scenario.name);
    }
  }
});

describe('load is put on this machine only', () => {
  const refused = [
    'http://example.org',
    'http://10.0.0.1:8080',
    'http://127.0.0.1.example.org',
    'http://localhost:8080',
    'http://0.0.0.0:8080',
    'https://127.0.0.1',
    'http://127.0.0.1@example.org',
  ];

  test('any other address is refused, also a name that means this machine today', async () => {
    for (const address of refused) {
      assert.throws(() => requireLoopback(address), /is refused/, address);
      const load: PlannedLoad = { address, plan: { keys: [key], cycle: [] }, connections: 1, seconds: 1, rate: 1 };
      await assert.rejects(runPlan(load), /is refused/, address);
    }
    for (const address of ['http://127.0.0.1:8080', 'http://127.1.2.3', 'http://[::1]:80']) requireLoopback(address);
  });

  test('the program says so and ends', async () => {
    const main = fileURLToPath(new URL('../../bench/main.js', import.meta.url));
    const env = { ...process.env, SLUICE_KEY: key };
    const run = promisify(execFile)(process.execPath, [main, '--target', 'http://example.org'], { env });
    const failure: unknown = await run.then(
      () => null,
      (error: unknown) => error,
    );
    assert.match(String((failure as { stderr?: string }).stderr), /http:\/\/example\.org is refused/);
  });
});

for (const [name, run, skip] of [
  ['wrk', runPlan, noWrk],
  ['the generator of bench/', runGenerator, false],
] as const) {
  describe(`a closed loop by ${name}`, { skip }, () => {
    const closed = (address: string, plan: Plan, connections = 2): Promise<LoadResult> =>
      run({ address, plan, connections, seconds: 1, rate: null });

    test('sends what the plan says, each with its key and a number of its own', async (t) => {
      const seen = { keys: new Set<string>(), ids: new Set<string>(), count: 0, bodies: new Set<string>() };
      const address = await serve(t, (request, body) => {
        const { dedup_id: id, ...rest } = JSON.parse(body) as { dedup_id: string };
        seen.keys.add(request.headers.authorization ?? '');
        seen.ids.add(id);
        seen.bodies.add(JSON.stringify(rest));
        seen.count++;
        return { status: 201, body: '{}' };
      });
      const body = '{"dedup_id":"a \\"quoted\\" {{unique}}","type":"t"}';
      const single = { method: 'POST', path: '/', contentType: 'application/json', body, events: 1 } as const;
      const result = await closed(address, { keys: ['one', 'two'], cycle: [single] });
      assert.equal(result.success, 1);
      assert.deepEqual([...seen.keys].toSorted(), ['Bearer one', 'Bearer two']);
      assert.equal(seen.ids.size, seen.count);
      assert.deepEqual([...seen.bodies], ['{"type":"t"}']);
      assert.equal(result.eventsPerSecond, result.requestsPerSecond);
    });

    test('counts only what was answered with a 2xx', async (t) => {
      let asked = 0;
      const address = await serve(t, () => ({ status: asked++ % 2 === 0 ? 201 : 503, body: '{}' }));
      const single = { method: 'POST', path: '/', body: '{}', events: 1 } as const;
      const result = await closed(address, { keys: [key], cycle: [single] });
      assert.ok(Math.abs(result.success - 0.5) < 0.1, `success ${result.success}`);
      assert.ok(result.requestsPerSecond * result.seconds < asked * 0.6, `${result.requestsPerSecond}/s of ${asked}`);
    });

    test('acknowledges every lease that it got, and counts what was acknowledged', async (t) => {
      const given = new Set<string>();
      const taken: string[] = [];
      const address = await serve(t, (request, body) => {
        if (request.url === '/ack') {
          taken.push((JSON.parse(body) as { lease_id: string }).lease_id);
          return { status: 200, body: '{"acknowledged":100,"already_acknowledged":0,"unknown":[]}' };
        }
        const lease = `lse_${String(given.size).padStart(26, '0')}`;
        given.add(lease);
        return { status: 200, body: `{"lease_id":"${lease}","data":[]}` };
      });
      const consume = {
        receive: { method: 'POST', path: '/receive', body: '{}', events: 0 },
        ack: { method: 'POST', path: '/ack', body: '{"lease_id":"{{lease}}"}', events: 0 },
        again: { method: 'POST', path: '/again', body: '{}', events: 0 },
      } as const;
      const result = await closed(address, { keys: [key], cycle: [], consume });
      assert.equal(new Set(taken).size, taken.length, 'a lease was acknowledged twice');
      assert.ok(taken.every((lease) => given.has(lease)));
      const counted = Math.round(result.eventsPerSecond * result.seconds) / 100;
      assert.ok(Math.abs(counted - taken.length) <= 4, `${counted} counted of ${taken.length} acknowledgements`);
    });
  });
}

describe('an open loop', () => {
  const single = { method: 'POST', path: '/', body: '{}', events: 1 } as const;
  const load = { plan: { keys: [key], cycle: [single] }, connections: 1, seconds: 1, rate: 100 };

  test('counts the wait of all that was due while the server was silent', async (t) => {
    let asked = 0;
    // Of 100 requests, due every 10 ms on one connection, the first takes half a second, which 50 have to wait for, 250 ms on average.
    const address = await serve(t, async () => {
      if (asked++ === 0) await pause(500);
      return { status: 201, body: '{}' };
    });
    const open = await runGenerator({ ...load, address });
    assert.equal(open.success, 1);
    assert.equal(asked, 100);
    assert.ok(open.p95 > 400, `p95 ${open.p95} ms`);
    assert.ok(open.p99 > 450, `p99 ${open.p99} ms`);

    // The control: a closed loop forgives it, since it sent one request meanwhile.
    asked = 0;
    const closed = await runGenerator({ ...load, address, rate: null });
    assert.ok(closed.p95 < open.p95, `p95 ${closed.p95} ms of a closed loop of ${asked} requests`);
  });

  test('counts as failed what was never answered', async (t) => {
    const address = await serve(t, (_, __, server) => {
      server.closeAllConnections();
      return { status: 201, body: '{}' };
    });
    const { success } = await runGenerator({ ...load, address, rate: 20 });
    assert.equal(success, 0);
  });
});

type Answering = (request: IncomingMessage, body: string, server: Server) => Reply | Promise<Reply>;

interface Reply {
  readonly status: number;
  readonly body: string;
}

async function serve(t: TestContext, answer: Answering): Promise<string> {
  const onRequest: RequestListener = (request, response) => {
    let body = '';
    request.setEncoding('latin1').on('data', (text: string) => (body += text));
    request.on('end', () => {
      void Promise.resolve(answer(request, body, server)).then((reply) =>
        response.writeHead(reply.status, { 'Content-Length': reply.body.length }).end(reply.body),
      );
    });
  };
  const server = createServer(onRequest).listen(0, '127.0.0.1');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
