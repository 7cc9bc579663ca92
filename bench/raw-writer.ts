/**
 * What the database gives to the client that Sluice uses, with nothing around it: rows of the events' table by binary COPY, or by one INSERT each. A process
 * of its own, which takes jobs from its parent.
 */
import { Client } from 'pg';
import { systemClock } from '../src/clock.js';
import { encodeCopyRows } from '../src/db/copy-binary.js';
import { migrate } from '../src/db/migrate.js';
import { openPostgres } from '../src/db/postgres.js';
import { eventCopyColumns, eventCopyTarget } from '../src/db/sql/events.js';
import { Partitions } from '../src/event-log/partitions.js';
import type { LoadResult } from './load.js';
import { percentile } from './numbers.js';
import { paddingOf } from './scenarios.js';

export interface RawJob {
  readonly how: 'copy' | 'insert';
  /** Rows of a COPY, which is one transaction; of an INSERT always 1. */
  readonly rows: number;
  /** Of a payload. */
  readonly bytes: number;
  /** Inserting at once, at most 10; a COPY goes over one. */
  readonly connections: number;
  readonly seconds: number;
}

export type RawResult = Omit<LoadResult, 'generator'>;

const insertersMax = 10;

/** An org that nobody has: the table itself does not ask. */
const org = '1';
const insertText = `
  INSERT INTO events (org, epoch, position, day, type, subject, occurred_at, received_at, attributes, payload)
  VALUES ($1, 1, $2, $3, 'user.created', NULL, NULL, now(), NULL, $4)`;

const url = process.argv[2] ?? '';
const database = await openPostgres({ url, clock: systemClock, onLog: () => {} });
await migrate(database, () => {});
await new Partitions(database, systemClock, () => {}).ensure();
let position = 0;
// Kept open between jobs: what a session has used can be read as long as it is there.
const inserters = Array.from({ length: insertersMax }, () => new Client(url));
// That the server has gone is found out by whoever asks it next.
for (const client of inserters) client.on('error', () => {});
await Promise.all(inserters.map((client) => client.connect()));

process.on('message', (job: RawJob) => void run(job));
process.on('disconnect', () => void Promise.all([database.close(), ...inserters.map((client) => client.end())]));
process.send?.('ready');

async function run(job: RawJob): Promise<void> {
  const result = await (job.how === 'copy' ? measured(job, [copyOf(job)]) : inserting(job));
  // What the server counts is then up to date, and not a second old.
  await database.query({ role: 'owner' }, { name: 'bench_flush', text: 'SELECT pg_stat_force_next_flush()' });
  process.send?.(result);
}

function copyOf({ rows, bytes }: RawJob): () => Promise<number> {
  const payload = payloadOf(bytes);
  return async () => {
    const nowMs = Date.now();
    const day = Math.floor(nowMs / 86_400_000);
    const values = Array.from({ length: rows }, () => {
      return [org, 1, ++position, day, 'user.created', null, null, nowMs, null, payload];
    });
    const data = encodeCopyRows(eventCopyColumns, values);
    const copied = await database.transaction({ role: 'owner' }, (tx) =>
      Promise.resolve({ count: tx.copyIn(eventCopyTarget(day), data) }),
    );
    return copied.count;
  };
}

function inserting(job: RawJob): Promise<RawResult> {
  const payload = payloadOf(job.bytes).toString();
  const day = Math.floor(Date.now() / 86_400_000);
  const inserts = inserters.slice(0, job.connections).map((client) => async (): Promise<number> => {
    const values = [org, ++position, day, payload];
    return (await client.query({ name: 'insert', text: insertText, values })).rowCount ?? 0;
  });
  return measured(job, inserts);
}

/** Runs each writer over and over until the time is up. A writer resolves with the rows that it wrote. */
async function measured({ seconds }: RawJob, writers: readonly (() => Promise<number>)[]): Promise<RawResult> {
  const latencies: number[] = [];
  let rows = 0;
  const startedAtMs = performance.now();
  const endsAtMs = startedAtMs + seconds * 1000;
  const loop = async (write: () => Promise<number>): Promise<void> => {
    for (let fromMs = startedAtMs; fromMs < endsAtMs;) {
      const written = await write();
      rows += written;
      const nowMs = performance.now();
      latencies.push(nowMs - fromMs);
      fromMs = nowMs;
    }
  };
  await Promise.all(writers.map(loop));
  const took = (performance.now() - startedAtMs) / 1000;
  const at = (share: number): number => percentile(latencies, share);
  return {
    sentPerSecond: latencies.length / took,
    requestsPerSecond: latencies.length / took,
    eventsPerSecond: rows / took,
    seconds: took,
    p50: at(0.5),
    p95: at(0.95),
    p99: at(0.99),
    p999: at(0.999),
    success: 1,
  };
}

function payloadOf(bytes: number): Buffer {
  return Buffer.from(`"${paddingOf(bytes - 2)}"`);
}
