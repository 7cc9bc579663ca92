import { PGlite } from '@electric-sql/pglite';
import { amcheck } from '@electric-sql/pglite/contrib/amcheck';
import { join } from 'node:path';
import { systemClock } from '../../../src/clock.js';
import type { Database } from '../../../src/db/database.js';
import { openEmbedded } from '../../../src/db/embedded.js';
import { compileEngine } from '../../../src/db/embedded-process.js';
import { encodeEventId } from '../../../src/event-log/event-id.js';
import { append } from '../log.js';
import type { Stored } from '../../promises/ledger.js';
import { violations } from '../../promises/ledger.js';
import type { Known } from './told.js';

/** Opens the folder with the product, and returns everything in which it is not as it must be, a line each. It is changed by that. */
export async function flawsOf(dataDir: string, ledger: Known, orgs: readonly string[]): Promise<string[]> {
  const onLockLost = (reason: string): never => {
    throw new Error(reason);
  };
  let database: Database;
  try {
    // A machine under load is not what is tried here.
    const statementTimeoutMs = 60_000;
    database = await openEmbedded({ dataDir, clock: systemClock, onLog: () => {}, onLockLost, statementTimeoutMs });
  } catch (error) {
    return [`it does not open: ${String(error)}`];
  }
  try {
    const stored = await storedEvents(database);
    return [
      ...violations(ledger.sendings.values(), stored),
      ...(await inconsistencies(database)),
      ...(await lostDedupIds(database, stored, ledger)),
      ...(await undoneAcknowledgements(database, ledger)),
      ...(await stoppedLogs(database, orgs)),
    ].concat(await closeAndVerify(database, dataDir));
  } catch (error) {
    return [`it cannot be read: ${String(error)}`];
  } finally {
    await database.close();
  }
}

async function storedEvents(database: Database): Promise<Stored[]> {
  const rows = await select<{ org: string; epoch: number; position: string; day: number; payload: string }>(
    database,
    'SELECT org, epoch, position, day, payload FROM events ORDER BY org, position',
  );
  return rows.map(({ org, epoch, position, day, payload }) => ({
    id: encodeEventId({ org, epoch, position: Number(position), day }),
    token: /"token": "(\w+)"/.exec(payload)?.[1] ?? payload,
    payload,
  }));
}

/** Each finds rows of tables that contradict each other. */
const contradictions = {
  'an event above the head of its log': `
    SELECT e.org, e.position FROM events AS e LEFT JOIN heads AS h USING (org)
    WHERE (e.epoch, e.position) > (h.epoch, h.position) OR e.day > h.day OR e.received_at > h.received_at OR h.org IS NULL`,
  'a dedup id without its event': `
    SELECT d.org, d.position FROM dedup AS d LEFT JOIN events AS e USING (org, epoch, position, day) WHERE e.org IS NULL`,
  'a cursor above the head': `SELECT s.org, s.cursor FROM subscriptions AS s JOIN heads AS h USING (org) WHERE s.cursor > h.position`,
  'a lease above the cursor': `
    SELECT l.org, upper(l.positions) FROM leases AS l JOIN subscriptions AS s USING (org, subscription)
    WHERE upper(l.positions) > s.cursor + 1`,
} as const;

async function inconsistencies(database: Database): Promise<string[]> {
  const found: string[] = [];
  for (const [what, text] of Object.entries(contradictions)) {
    for (const row of await select(database, text)) found.push(`${what}: ${JSON.stringify(row)}`);
  }
  return found;
}

/** A second sending of what is stored must be known as one. */
async function lostDedupIds(database: Database, stored: readonly Stored[], { sendings }: Known): Promise<string[]> {
  const rows = await select<{ dedup_id: string }>(database, 'SELECT dedup_id FROM dedup');
  const known = new Set(rows.map((row) => row.dedup_id));
  const tokens = new Set(stored.map(({ token }) => token));
  return [...sendings.values()].flatMap(({ token, dedupId }) =>
    dedupId !== null && tokens.has(token) && !known.has(dedupId) ? [`${token} is stored, its dedup id is not`] : [],
  );
}

/** An acknowledged event must never be handed out again. */
async function undoneAcknowledgements(database: Database, { consumed }: Known): Promise<string[]> {
  const found: string[] = [];
  for (const [org, positions] of consumed) {
    const rows = await select<{ p: string }>(
      database,
      `SELECT p FROM subscriptions AS s, unnest('{${[...positions].join()}}'::bigint[]) AS p
       WHERE s.org = ${org} AND s.subscription = 0 AND (
         (p > s.cursor AND NOT s.ahead @> p)
         OR EXISTS (SELECT FROM leases AS l WHERE l.org = s.org AND l.subscription = 0 AND l.positions @> p))`,
    );
    found.push(...rows.map(({ p }) => `the acknowledgement of ${org}/${p} is gone`));
  }
  return found;
}

/** The log goes on behind everything that is there. */
async function stoppedLogs(database: Database, orgs: readonly string[]): Promise<string[]> {
  for (const org of orgs) {
    try {
      await append(database, org, [{ payload: '"after"' }], Date.now());
    } catch (error) {
      return [`${org} takes no event any more: ${String(error)}`];
    }
  }
  return [];
}

async function select<Row>(database: Database, text: string): Promise<Row[]> {
  return (await database.query<Row>({ role: 'owner' }, { name: '', text })).rows;
}

let engineModule: Promise<WebAssembly.Module> | undefined;

/** Closes the product's database and lets PostgreSQL's own verifier (amcheck) go through every table and index, those of the catalog too. */
async function closeAndVerify(database: Database, dataDir: string): Promise<string[]> {
  await database.close();
  engineModule ??= compileEngine();
  const postgres = await PGlite.create(join(dataDir, 'pg'), {
    pgliteWasmModule: await engineModule,
    extensions: { amcheck },
    startParams: [...PGlite.defaultStartParams, '-c', 'shared_buffers=32MB'],
  });
  try {
    await postgres.exec('CREATE EXTENSION amcheck');
    const tables = await postgres.query<{ name: string; flaw: string }>(`
      SELECT c.oid::regclass::text AS name, format('block %s, item %s: %s', v.blkno, v.offnum, v.msg) AS flaw
      FROM pg_class AS c, LATERAL verify_heapam(c.oid) AS v WHERE c.relkind IN ('r', 't', 'm')`);
    return [...tables.rows.map(({ name, flaw }) => `${name}: ${flaw}`), ...(await brokenIndexes(postgres))];
  } finally {
    await postgres.close();
  }
}

async function brokenIndexes(postgres: PGlite): Promise<string[]> {
  const { rows } = await postgres.query<{ name: string; method: string; oid: number }>(`
    SELECT c.oid, c.oid::regclass::text AS name, a.amname AS method FROM pg_class AS c JOIN pg_am AS a ON a.oid = c.relam WHERE c.relkind = 'i'`);
  const other = rows.find(({ method }) => method !== 'btree');
  if (other !== undefined) throw new Error(`${other.name} is of kind ${other.method}, which nothing here verifies`);
  const verify = (which: string): Promise<unknown> =>
    postgres.query(`SELECT bt_index_parent_check(indexrelid, true, true, indisunique) FROM pg_index WHERE ${which}`);
  const found: string[] = [];
  try {
    // All in one statement takes a fifth of the time of one after the other.
    await verify(`indexrelid IN (SELECT oid FROM pg_class WHERE relkind = 'i')`);
  } catch {
    for (const { oid, name } of rows) {
      await verify(`indexrelid = ${oid}`).catch((error: unknown) => found.push(`${name}: ${String(error)}`));
    }
    if (found.length === 0) found.push('the indexes are flawed together, and none of them alone');
  }
  return found;
}
