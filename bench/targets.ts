/** What is measured, each in processes and on a database of its own, so that what it uses can be told from what the others use. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client as PgClient } from 'pg';
import { Client } from '../test/support/client.js';
import { adminToken } from '../test/support/node.js';
import { startAgedServer } from './aged-server.js';
import type { PostgresServer } from '../test/support/postgres-server.js';
import type { EngineName } from '../test/support/storage.js';
import { call, createKeys, readMetrics } from './api.js';
import { owned, ownedFolder } from './owned.js';
import type { RawJob, RawResult } from './raw-writer.js';
import { startServerProcess } from './server-process.js';
import type { ServerProcess } from './server-process.js';

/** What a database has counted since its start. */
export interface Counts {
  readonly events: number | null;
  readonly fsyncs: number | null;
}

/** Something that takes events, in processes of its own. */
export interface Target {
  readonly name: string;
  readonly kind: 'bare' | 'raw' | 'sluice';
  /** With everything that they start. */
  readonly nodePids: readonly number[];
  readonly databasePids: readonly number[];
  /** As it stands; of one that works on in the background, as of a second ago. */
  counts(): Promise<Counts>;
  stop(): Promise<void>;
}

export interface HttpTarget extends Target {
  readonly kind: 'bare' | 'sluice';
  readonly address: string;
  readonly key: string;
}

export interface SluiceTarget extends HttpTarget {
  readonly kind: 'sluice';
  readonly engine: EngineName;
  readonly admin: Client;
  /** Keys of as many new orgs. */
  newKeys(count: number): Promise<string[]>;
}

export interface RawTarget extends Target {
  readonly kind: 'raw';
  readonly how: RawJob['how'];
  run(job: RawJob): Promise<RawResult>;
}

export type AnyTarget = (HttpTarget & { readonly kind: 'bare' }) | SluiceTarget | RawTarget;

const nothingCounted = (): Promise<Counts> => Promise.resolve({ events: null, fsyncs: null });

export function startBareServer(): Promise<HttpTarget & { readonly kind: 'bare' }> {
  return startBare('bare node:http', 'bare-server.js');
}

export function startFastifyServer(): Promise<HttpTarget & { readonly kind: 'bare' }> {
  return startBare('bare Fastify', 'fastify-server.js');
}

async function startBare(name: string, script: string): Promise<HttpTarget & { readonly kind: 'bare' }> {
  const { address, pid, stop } = await startServerProcess([pathOf(script)]);
  return {
    name,
    kind: 'bare',
    address,
    key: 'none',
    nodePids: [pid],
    databasePids: [],
    counts: nothingCounted,
    stop,
  };
}

export interface SluiceOptions {
  readonly name?: string;
  /** The built program of another commit. Default: of this tree. */
  readonly main?: string;
  readonly flags?: readonly string[];
  /** Makes the main thread slower by this share of its work: for trying the benchmark itself. */
  readonly slowdown?: number;
}

/**
 * Sluice with everything on, on a new database, and an org whose rate limit is not what is measured. Null where the engine cannot be had. Rejects with what
 * it said when it does not start.
 */
export async function startSluice(engine: EngineName, options: SluiceOptions = {}): Promise<SluiceTarget | null> {
  const storage = await newStorage(engine);
  if (storage === null) return null;
  const { name = `sluice, ${engine}` } = options;
  try {
    const node = await startNode(storage.flags, options);
    const newKeys = (count: number): Promise<string[]> => createKeys(node.address, adminToken, count);
    const [key = ''] = await newKeys(1);
    return {
      name,
      kind: 'sluice',
      engine,
      address: node.address,
      key,
      newKeys,
      admin: new Client(node.address, adminToken),
      nodePids: [node.pid],
      databasePids: storage.pids,
      counts: () => (storage.counts ?? embeddedCounts)(node.address),
      async stop() {
        await node.stop();
        await storage.remove();
      },
    };
  } catch (error) {
    await storage.remove();
    throw error;
  }
}

/** The program on this storage. */
export function startNode(
  storageFlags: readonly string[],
  { main = pathOf('../src/main.js'), flags = [], slowdown = 0 }: SluiceOptions = {},
): Promise<ServerProcess> {
  const preload = slowdown === 0 ? [] : ['--import', new URL('slow-down.js', import.meta.url).href];
  const settings = ['--port', '0', '--admin-token', adminToken, '--log-level', 'warn', ...storageFlags, ...flags];
  return startServerProcess([...preload, main, ...settings], { BENCH_SLOWDOWN: String(slowdown) });
}

/** New and empty; null where the engine cannot be had. */
export async function newStorage(engine: EngineName): Promise<Storage | null> {
  return engine === 'embedded' ? newFolder() : newServer();
}

/** Where a node keeps its data. */
interface Storage {
  /** With which the program starts on it. */
  readonly flags: readonly string[];
  readonly pids: readonly number[];
  readonly counts?: () => Promise<Counts>;
  remove(): Promise<void>;
}

function newFolder(): Storage {
  const { path, remove } = ownedFolder('sluice-bench-');
  return {
    flags: ['--data-dir', join(path, 'data')],
    pids: [],
    remove: () => Promise.resolve(remove()),
  };
}

async function newServer(): Promise<Storage | null> {
  const server = await startAgedServer();
  if (server === null) return null;
  const url = await server.createDatabase();
  return {
    flags: ['--database-url', url],
    pids: pidsOf(server),
    counts: () => serverCounts(url),
    remove: () => server.stop(),
  };
}

async function embeddedCounts(address: string): Promise<Counts> {
  const metric = await readMetrics(address, adminToken);
  return { events: metric('sluice_events_stored_total'), fsyncs: metric('sluice_embedded_fsyncs') };
}

/** Positions are counted rather than the metric of a node, since there may be several; ours have no gaps. */
async function serverCounts(url: string): Promise<Counts> {
  const client = new PgClient(url);
  await client.connect();
  try {
    const heads = await client.query<{ events: string }>('SELECT COALESCE(sum(position), 0) AS events FROM heads');
    return { events: Number(heads.rows[0]?.events), fsyncs: await walSyncs(client) };
  } finally {
    await client.end();
  }
}

/** Each version of PostgreSQL counts them in one of two places; null where in neither. */
async function walSyncs(client: PgClient): Promise<number | null> {
  for (const text of [
    'SELECT wal_sync AS syncs FROM pg_stat_wal',
    `SELECT sum(fsyncs) AS syncs FROM pg_stat_io WHERE object = 'wal'`,
  ]) {
    try {
      return Number((await client.query<{ syncs: string }>(text)).rows[0]?.syncs);
    } catch {
      continue;
    }
  }
  return null;
}

/** Both raw writers, on one server. Null where there is no PostgreSQL. */
export async function startRawWriters(): Promise<RawTarget[] | null> {
  const server = await startAgedServer();
  if (server === null) return null;
  const url = await server.createDatabase();
  const child = owned(fork(pathOf('raw-writer.js'), [url], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] }));
  const ended = once(child, 'exit');
  let isEnding = false;
  const answer = async (): Promise<unknown> => {
    const first = await Promise.race([once(child, 'message') as Promise<[unknown]>, ended.then(() => null)]);
    if (first === null) throw new Error('the raw writer ended');
    return first[0];
  };
  await answer();
  const stop = async (): Promise<void> => {
    if (isEnding) return;
    isEnding = true;
    if (child.connected) child.disconnect();
    await ended;
    await server.stop();
  };
  const run = async (job: RawJob): Promise<RawResult> => {
    child.send(job);
    return (await answer()) as RawResult;
  };
  const counts = async (): Promise<Counts> => {
    const client = new PgClient(url);
    await client.connect();
    try {
      return { events: null, fsyncs: await walSyncs(client) };
    } finally {
      await client.end();
    }
  };
  const common = { kind: 'raw', nodePids: [child.pid ?? 0], databasePids: pidsOf(server), counts, stop, run } as const;
  return [
    { ...common, how: 'copy', name: 'raw binary COPY' },
    { ...common, how: 'insert', name: 'raw single-row INSERT' },
  ];
}

/** A few events of a target's orgs, one by one: a session of PostgreSQL reports what it has counted at the next transaction after a second. */
export async function flushCounts(target: SluiceTarget, keys: readonly string[]): Promise<void> {
  if (target.engine === 'embedded') return;
  await new Promise<void>((resume) => {
    setTimeout(resume, 1_100);
  });
  for (const key of keys.slice(0, 16)) await call(target.address, key, 'POST', '/v1/events', { type: 'a', payload: 1 });
}

function pidsOf({ pid }: PostgresServer): number[] {
  return pid === undefined ? [] : [pid];
}

function pathOf(script: string): string {
  return fileURLToPath(new URL(script, import.meta.url));
}
