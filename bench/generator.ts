/**
 * A load generator in a process of its own: many keep-alive connections, one request at a time on each. In an open loop requests are due at fixed times, and
 * each one's latency counts from when it was due, however long it waited for a connection: what a slow server holds back is not forgiven
 * (Gil Tene's coordinated omission). Reads one job as JSON from standard input, writes one result as JSON to standard output.
 */
import { text } from 'node:stream/consumers';
import type { GeneratorJob, GeneratorResult } from './generator-process.js';
import { HttpConnection } from './http-connection.js';
import { ofSorted } from './numbers.js';
import { fill, rawRequest, requireLoopback, uniqueText } from './plan.js';
import type { RawRequest } from './plan.js';

interface Due {
  readonly atMs: number;
}

/** Requests that are due and wait for a connection. What is beyond them counts as failed. */
const waitingMax = 100_000;
const answerMsMax = 10_000;
/** After the end of the time: for the answers to what was due. */
const drainMsMax = 10_000;
const againMsMin = 1_000;

const job = JSON.parse(await text(process.stdin)) as GeneratorJob;
const { hostname, port, host } = requireLoopback(job.address);
const keys = job.plan.keys;
const requests = job.plan.cycle.map((request) => rawRequest(request, host));
const { consume } = job.plan;
const steps = consume && {
  receive: rawRequest(consume.receive, host),
  ack: rawRequest(consume.ack, host),
  again: rawRequest(consume.again, host),
};

const latencies: number[] = [];
const lateness: number[] = [];
const leases: string[] = [];
let [sent, failed, events, unique] = [0, 0, 0, 0];
let [isEmpty, againAtMs] = [false, -Infinity];
const idle: HttpConnection[] = [];
const waiting: Due[] = [];
let waitingFrom = 0;
let inFlight = 0;
let isOver = false;

const connections = Array.from({ length: job.connections }, () => {
  return new HttpConnection({ hostname: hostname.replace(/^\[|\]$/g, ''), port: Number(port), answerMsMax });
});
await Promise.all(connections.map((connection) => connection.open()));
// Nothing is due before there is a connection to send it on.
const startedAtMs = performance.now();
const endsAtMs = startedAtMs + job.seconds * 1000;
await (job.rate === null ? closedLoop() : openLoop(job.rate));
await drained();
const tookMs = performance.now() - startedAtMs;
isOver = true;
failed += inFlight + (waiting.length - waitingFrom);
sent += waiting.length - waitingFrom;
for (const connection of connections) connection.close();
process.stdout.write(`${JSON.stringify(result(tookMs / 1000))}\n`);

async function closedLoop(): Promise<void> {
  await Promise.all(connections.map(askOverAndOver));
}

async function askOverAndOver(connection: HttpConnection): Promise<void> {
  while (performance.now() < endsAtMs) await ask(connection, performance.now());
}

async function openLoop(perSecond: number): Promise<void> {
  idle.push(...connections);
  const total = Math.floor(perSecond * job.seconds);
  for (let next = 0; next < total;) {
    const nowMs = performance.now();
    for (; next < total; next++) {
      const atMs = startedAtMs + (next * 1000) / perSecond;
      if (atMs > nowMs) break;
      give({ atMs });
    }
    await pause(1);
  }
}

/** Until what was due has been answered, or has been waited for long enough. */
async function drained(): Promise<void> {
  const giveUpAtMs = performance.now() + drainMsMax;
  while (busy() && performance.now() < giveUpAtMs) await pause(5);
}

function busy(): boolean {
  return inFlight > 0 || waitingFrom < waiting.length;
}

/** To a connection that is free, else to whichever becomes free next. */
function give(due: Due): void {
  const connection = idle.pop();
  if (connection !== undefined) {
    lateness.push(performance.now() - due.atMs);
    void serve(connection, due);
  } else if (waiting.length - waitingFrom < waitingMax) {
    waiting.push(due);
  } else {
    sent++;
    failed++;
  }
}

async function serve(connection: HttpConnection, first: Due): Promise<void> {
  let due: Due | undefined = first;
  while (due !== undefined) {
    await ask(connection, due.atMs);
    due = isOver ? undefined : waiting[waitingFrom];
    if (due !== undefined) waitingFrom++;
  }
  idle.push(connection);
}

/** One request and its answer; what fails costs its connection, and is followed by a new one. */
async function ask(connection: HttpConnection, fromMs: number): Promise<void> {
  const request = nextRequest();
  const values = { key: keys[sent % keys.length] ?? '', unique: uniqueText(unique++), lease: '' };
  if (request === steps?.ack) values.lease = leases.pop() ?? '';
  sent++;
  inFlight++;
  try {
    const answer = await connection.ask(fill(request, values));
    if (answer.status >= 200 && answer.status < 300) events += eventsOf(request, answer.body);
    else failed++;
    latencies.push(performance.now() - fromMs);
  } catch {
    failed++;
    await connection.open().catch(() => pause(100));
  } finally {
    inFlight--;
  }
}

function nextRequest(): RawRequest {
  if (steps === undefined) return requests[sent % requests.length]!;
  if (leases.length > 0) return steps.ack;
  if (isEmpty && performance.now() - againAtMs > againMsMin) {
    isEmpty = false;
    againAtMs = performance.now();
    return steps.again;
  }
  return steps.receive;
}

function eventsOf(request: RawRequest, body: Buffer): number {
  if (steps === undefined) return request.events;
  const head = body.toString('latin1', 0, 100);
  const lease = /^\{"lease_id":"(lse_\w+)"/.exec(head)?.[1];
  if (lease !== undefined) leases.push(lease);
  else if (head.startsWith('{"lease_id":null')) isEmpty = true;
  return Number(/^\{"acknowledged":(\d+)/.exec(head)?.[1] ?? 0);
}

function result(seconds: number): GeneratorResult {
  const sorted = Float64Array.from(latencies).toSorted();
  const late = Float64Array.from(lateness).toSorted();
  const at = (share: number): number => ofSorted(sorted, share);
  const answered = sent - failed;
  return {
    sentPerSecond: sent / seconds,
    requestsPerSecond: answered / seconds,
    eventsPerSecond: events / seconds,
    seconds,
    p50: at(0.5),
    p95: at(0.95),
    p99: at(0.99),
    p999: at(0.999),
    success: sent === 0 ? 0 : answered / sent,
    ...(job.rate === null ? {} : { lateP99: ofSorted(late, 0.99) }),
  };
}

function pause(ms: number): Promise<void> {
  return new Promise((resume) => {
    setTimeout(resume, ms);
  });
}
