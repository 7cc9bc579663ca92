/** P7: thousands of connections that ask for nothing, and hundreds that ask a byte a second, are none of the other clients' business. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { Client, createOrg } from '../support/client.js';
import { adminToken, spawnNode } from '../support/node.js';
import type { NodeProcess } from '../support/node.js';
import { residentBytes, watchMemory } from '../support/process-memory.js';
import { createStorage } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';

const isSoak = process.env['SLUICE_TEST_SOAK'] === '1';
/** How long they stay. The soak's is longer than a request may take to arrive: those that are closed come again. */
const crowdMs = isSoak ? 40_000 : 3_000;
const slowMax = 500;
const idleMax = 5_000;
/** Open files of either process that are not connections of the crowd. */
const otherFiles = 500;
/** Of memory, for each connection of the crowd. */
const connectionBytesMax = 40_000;
/** Of the crowd, at any time: of those that took too long and were closed, some are just coming again. */
const presentShareMin = 0.9;
const opensAtOnce = 100;
const comeAgainMs = 100;
const eventsAtOnce = 2;
/** Of the clients that are not of the crowd; `fetch` opens one whenever none is quite free. */
const otherConnectionsMax = 20;
const answerMsMax = 20_000;
const patienceMs = 30_000;

/** Node raises its soft limit to the hard one, and both processes have the same. */
const [, filesMax = '0'] = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
const slow = slowMax;
const idle = Math.max(0, Math.min(idleMax, Number(filesMax) - otherFiles - slow));
const presentMin = presentShareMin * (idle + slow);

describe('a crowd of idle and of slow connections', () => {
  let storage: TestStorage;
  let node: NodeProcess;
  let crowd: Crowd | undefined;
  before(async () => {
    storage = (await createStorage('embedded')) ?? assert.fail();
    node = await spawnNode(storage);
  });
  after(async () => {
    crowd?.leave();
    await node?.end('SIGKILL');
    await storage?.remove();
  });

  test(`of ${idle} and ${slow} keeps no event of another client out, takes little memory, and is gone when it goes`, async (t) => {
    if (idle < idleMax)
      t.diagnostic(`NOT TESTED with more than ${idle} idle connections: ${filesMax} files may be open`);
    const { client } = await createOrg(node.address);
    const operator = new Client(node.address, adminToken);
    let stored = 0;
    const send = async (): Promise<void> => {
      const signal = AbortSignal.timeout(answerMsMax);
      const { status, text } = await client.call('POST', '/v1/events', { type: 'a', payload: stored }, {}, signal);
      assert.equal(status, 201, `event ${stored}: ${text}`);
      stored++;
    };
    /** Of the node, the clients of this test included. */
    const untilOpen = async (isEnough: (open: number) => boolean): Promise<number> => {
      const giveUpAt = performance.now() + patienceMs;
      for (;;) {
        const { text } = await operator.get('/metrics');
        const open = Number(/^sluice_http_connections (\d+)$/m.exec(text)?.[1]);
        if (isEnough(open)) return open;
        assert.ok(performance.now() < giveUpAt, `${open} connections are open`);
        await pause(50);
      }
    };
    // What everybody has done once, takes no more memory later.
    for (let i = 0; i < 100; i++) await send();
    const quietBytes = residentBytes(node.pid);

    const memory = watchMemory(node.pid);
    crowd = new Crowd(node.address, client.credential ?? '');
    const over = new AbortController();
    const sendOn = async (): Promise<void> => {
      while (!over.signal.aborted) await send();
    };
    const first = stored;
    const sending = Promise.all(Array.from({ length: eventsAtOnce }, sendOn));
    try {
      await Promise.race([crowd.come(), sending]);
      await untilOpen((open) => open >= presentMin);
      await Promise.race([pause(crowdMs), sending]);
      await untilOpen((open) => open >= presentMin);
    } finally {
      over.abort();
    }
    await sending;
    const during = stored - first;
    const grownBytes = (await memory()) - quietBytes;
    t.diagnostic(
      `${during} events stored meanwhile, ${(grownBytes / 1e6).toFixed()} MB more than ${(quietBytes / 1e6).toFixed()}, ` +
        `${crowd.bytesSent} bytes trickled, ${crowd.cameAgain} were closed and came again`,
    );
    assert.ok(during > 0, 'no event was stored meanwhile');
    assert.ok(crowd.bytesSent > slow, `${crowd.bytesSent} bytes came from ${slow} slow connections`);
    // None of them had to make room; those that were closed had taken too long.
    const { text } = await operator.get('/metrics');
    assert.deepEqual(text.match(/^sluice_http_connection_pressure_total\{.*\} [1-9]\d*$/gm) ?? [], []);
    assert.ok(
      grownBytes < (idle + slow) * connectionBytesMax,
      `${grownBytes} bytes more for ${idle + slow} connections`,
    );

    crowd.leave();
    await untilOpen((open) => open <= otherConnectionsMax);
    await send();
  });
});

/** Clients on as many connections, which say little. One that is closed comes again, until all leave. */
class Crowd {
  bytesSent = 0;
  cameAgain = 0;
  readonly #sockets = new Map<number, Socket>();
  readonly #slow: number[] = [];
  readonly #openings: readonly string[];
  #isLeaving = false;
  #trickling: NodeJS.Timeout | undefined;

  constructor(
    readonly address: string,
    key: string,
  ) {
    const begin = `POST /v1/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${key}\r\n`;
    const whole = 'GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n';
    this.#openings = [
      // Half of the idle ones have never said anything, half have asked once.
      ...Array.from({ length: idle }, (_, i) => (i % 2 === 0 ? '' : whole)),
      // Half of the slow ones go on with a header, half with a body.
      ...Array.from({ length: slow }, (_, i) =>
        i % 2 === 0
          ? `${begin}X-Slow: `
          : `${begin}Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"type":"a","payload":"`,
      ),
    ];
  }

  /** Resolves when all are connected. */
  async come(): Promise<void> {
    const numbers = this.#openings.keys();
    const open = async (): Promise<void> => {
      for (const number of numbers) await this.#open(number);
    };
    await Promise.all(Array.from({ length: opensAtOnce }, open));
    for (let number = idle; number < idle + slow; number++) this.#slow.push(number);
    // A tenth of them ten times a second, so that each sends a byte a second and they do not all do it at once.
    let turn = 0;
    this.#trickling = setInterval(() => {
      turn = (turn + 1) % 10;
      for (const number of this.#slow) if (number % 10 === turn) this.#trickle(number);
    }, 100);
  }

  leave(): void {
    this.#isLeaving = true;
    clearInterval(this.#trickling);
    for (const socket of this.#sockets.values()) socket.destroy();
  }

  #trickle(number: number): void {
    const socket = this.#sockets.get(number);
    if (socket?.writable !== true || socket.connecting) return;
    socket.write('a');
    this.bytesSent++;
  }

  async #open(number: number): Promise<void> {
    if (this.#isLeaving) return;
    const { hostname, port } = new URL(this.address);
    const socket = connect(Number(port), hostname);
    this.#sockets.set(number, socket);
    socket.on('error', () => {});
    socket.on('close', () => {
      if (this.#isLeaving) return;
      this.cameAgain++;
      setTimeout(() => void this.#open(number), comeAgainMs);
    });
    socket.resume();
    await new Promise<unknown>((resolve) => socket.once('connect', resolve).once('close', resolve));
    socket.write(this.#openings[number] ?? '');
  }
}
