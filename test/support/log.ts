import { randomInt } from 'node:crypto';
import type { Clock } from '../../src/clock.js';
import { systemClock } from '../../src/clock.js';
import type { Database, Statement, Transaction } from '../../src/db/database.js';
import { openEmbedded } from '../../src/db/embedded.js';
import { migrate } from '../../src/db/migrate.js';
import { openPostgres } from '../../src/db/postgres.js';
import { insertOrg } from '../../src/db/sql/tenancy.js';
import type { Place } from '../../src/event-log/append.js';
import { appendBatch } from '../../src/event-log/append.js';
import { Partitions } from '../../src/event-log/partitions.js';
import type { TestStorage } from './storage.js';

export const dayMs = 86_400_000;

/** The database of a storage without a node: migrated, with partitions around the clock's today. */
export async function openLog(storage: TestStorage, clock: Clock = systemClock, ingestLanes = 1): Promise<Database> {
  const database = await openDatabase(storage, clock, ingestLanes);
  await migrate(database, () => {});
  await ensurePartitions(database, clock);
  return database;
}

/** The database of a storage as it is. On PostgreSQL it has that many connections for ingest; the embedded engine has one. */
export function openDatabase({ config }: TestStorage, clock: Clock = systemClock, ingestLanes = 1): Promise<Database> {
  const { dataDir, databaseUrl } = config;
  if (databaseUrl !== null) return openPostgres({ url: databaseUrl, clock, ingestLanes, onLog: () => {} });
  const onLockLost = (reason: string): never => {
    throw new Error(reason);
  };
  return openEmbedded({ dataDir, clock, onLog: () => {}, onLockLost });
}

export function ensurePartitions(database: Database, clock: Clock): Promise<void> {
  return new Partitions(database, clock, () => {}).ensure();
}

/** An org with an empty log and its inbox `default`, subscription 0. Returns its number. */
export async function newLog(database: Database, nowMs: number, attemptsMax = 10): Promise<string> {
  const org = String(randomInt(1, 2 ** 48 - 1));
  await database.transaction({ role: 'system' }, (tx) =>
    insertOrg(tx, { org, name: 'test', tier: 'enterprise', createdAt: new Date(nowMs) }),
  );
  await asOwner(database, `UPDATE subscriptions SET max_attempts = ${attemptsMax} WHERE org = ${org}`);
  return org;
}

export interface TestEvent {
  readonly type?: string;
  readonly subject?: string;
  readonly payload?: string | Buffer;
  readonly dedupId?: string;
}

/** Appends one batch. Returns the place of each stored event; null for one that was stored before. */
export async function append(
  database: Database,
  org: string,
  events: readonly TestEvent[],
  nowMs: number,
): Promise<(Place | null)[]> {
  const bodyHash = Buffer.alloc(32);
  const outcome = await appendBatch(
    database,
    events.map(({ type = 'test', subject = null, payload = '{}', dedupId }) => ({
      org,
      type,
      subject,
      occurredAtMs: null,
      payload: Buffer.from(payload),
      dedup: dedupId === undefined ? null : { id: dedupId, bodyHash },
    })),
    nowMs,
  );
  return outcome.events.map((event) => (event.kind === 'stored' ? event.place : null));
}

/** Rows as the org's own role sees them. */
export async function asOrg<Row>(database: Database, org: string, text: string): Promise<Row[]> {
  const scope = { role: 'app', org, priority: 'read' } as const;
  return (await database.query<Row>(scope, { name: `test_${text.length}_${text}`.slice(0, 60), text })).rows;
}

/** Changes what no function of the product changes. The owner is a superuser in tests, so no policy holds it back. */
export async function asOwner(database: Database, text: string): Promise<void> {
  await database.transaction({ role: 'owner' }, (tx) => tx.script(text));
}

/** One database for its users, which can be closed and opened again below them while they do nothing. */
export async function reopenable(
  open: () => Promise<Database>,
): Promise<{ readonly database: Database; readonly reopen: () => Promise<void> }> {
  let current = await open();
  return {
    database: {
      engine: current.engine,
      transaction: (scope, work) => current.transaction(scope, work),
      query: (scope, statement, values) => current.query(scope, statement, values),
      listen: (channel, onNotify, onGap) => current.listen(channel, onNotify, onGap),
      close: () => current.close(),
    },
    reopen: async () => {
      await current.close();
      current = await open();
    },
  };
}

export type Query = (statement: Statement, values: readonly unknown[], real: Transaction['query']) => Promise<unknown>;

/** The same database, but each statement of its transactions goes through `query`, which may count it, hold it back, or break it. */
export function intercept(database: Database, query: Query): Database {
  return {
    engine: database.engine,
    transaction: (scope, work) =>
      database.transaction(scope, async (tx) => {
        const pending: Promise<unknown>[] = [];
        const value = await work({
          copyIn: (target, rows) => tx.copyIn(target, rows),
          script: (text) => tx.script(text),
          query: (statement, values = []) => {
            const answer = query(statement, values, (other, given) => tx.query(other, given));
            pending.push(answer);
            return answer as never;
          },
        });
        // What `work` did not wait for may be sent later than it would be without this, and COMMIT comes after it.
        await Promise.allSettled(pending);
        return value;
      }),
    query(scope, statement, values) {
      return this.transaction(scope, (tx) => tx.query(statement, values));
    },
    listen: (channel, onNotify, onGap) => database.listen(channel, onNotify, onGap),
    close: () => database.close(),
  };
}
