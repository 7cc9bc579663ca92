import { randomInt } from 'node:crypto';
import { systemClock } from '../../src/clock.js';
import type { Database } from '../../src/db/database.js';
import { openEmbedded } from '../../src/db/embedded.js';
import { openPostgres } from '../../src/db/postgres.js';
import type { NewEvent } from '../../src/event-log/new-event.js';
import { dedupHash } from '../../src/ingest/envelope.js';
import { openLog } from './log.js';
import type { TestStorage } from './storage.js';

/** One line of an org's log as it is stored. */
export interface LogLine {
  readonly position: number;
  readonly type: string;
  readonly payload: string;
}

/** A storage's event log without a node around it: what ingest writes to, and what really came of it. */
export interface TestLog {
  readonly database: Database;
  /** Orgs with an empty log, in ascending order of their numbers. */
  addOrgs(count: number): Promise<string[]>;
  /** The whole log of an org, in log order. */
  lines(org: string): Promise<LogLine[]>;
  close(): Promise<void>;
}

/** Opens a storage with its schema and partitions in place. */
export async function openTestLog(storage: TestStorage): Promise<TestLog> {
  const database = await openLog(storage);
  return {
    database,
    async addOrgs(count) {
      const orgs = Array.from({ length: count }, () => String(randomInt(1, 2 ** 48 - 1)));
      orgs.sort((a, b) => Number(a) - Number(b));
      await insertOrgs(database, orgs);
      return orgs;
    },
    async lines(org) {
      const text = 'SELECT position, type, payload FROM events WHERE org = $1 ORDER BY position';
      const { rows } = await database.query<{ position: string; type: string; payload: string }>(
        { role: 'app', org },
        { name: 'test_log_lines', text },
        [org],
      );
      return rows.map((row) => ({ ...row, position: Number(row.position) }));
    },
    close: () => database.close(),
  };
}

/** The product's database on a storage, as a node opens it. */
export function openDatabase(storage: TestStorage): Promise<Database> {
  const { databaseUrl, dataDir } = storage.config;
  const common = { clock: systemClock, onLog: () => {} };
  if (databaseUrl !== null) return openPostgres({ url: databaseUrl, ...common });
  const onLockLost = (reason: string): never => {
    throw new Error(reason);
  };
  return openEmbedded({ dataDir, onLockLost, ...common });
}

async function insertOrgs(database: Database, orgs: readonly string[]): Promise<void> {
  const today = Math.floor(Date.now() / 86_400_000);
  await database.transaction({ role: 'owner' }, async (tx) => {
    // Forced row-level security binds the owner, too, unless it is a superuser, which the tests' owner is.
    const orgTable = `INSERT INTO orgs (org, name, tier, created_at) SELECT org, 'test', 'enterprise', now() FROM unnest($1::bigint[]) AS o (org)`;
    const headTable = `INSERT INTO heads (org, epoch, position, day, received_at, first_position, first_day)
      SELECT org, 1, 0, $2::integer, now(), 1, $2::integer FROM unnest($1::bigint[]) AS o (org)`;
    await tx.query({ name: 'test_orgs_insert', text: orgTable }, [orgs]);
    await tx.query({ name: 'test_heads_insert', text: headTable }, [orgs, today]);
  });
}

/** An event as the envelope hands it over. `payload` is JSON text. */
export function newEvent(org: string, payload: string, dedupId: string | null = null, type = 'test.event'): NewEvent {
  const bytes = Buffer.from(payload);
  return {
    org,
    type,
    subject: null,
    occurredAtMs: null,
    payload: bytes,
    dedup: dedupId === null ? null : { id: dedupId, bodyHash: dedupHash(type, bytes) },
  };
}

/** For what stores batches without looking after blocked heads. */
export const unwatched = { watch: () => () => {} };

/** Resolves when a session of the database (PostgreSQL) waits for another's lock. */
export async function untilBlocked(database: Database): Promise<void> {
  const text = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0`;
  while ((await database.query({ role: 'owner' }, { name: 'test_blocked', text })).rowCount === 0);
}
