import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Database, Statement, Transaction } from '../../src/db/database.js';
import { acknowledge } from '../../src/subscriptions/acknowledge.js';
import { peek } from '../../src/subscriptions/peek.js';
import { receive } from '../../src/subscriptions/receive.js';
import { append, asOwner, dayMs, intercept, newLog, openLog } from '../support/log.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';

const nowMs = Date.now();
const day = Math.floor(nowMs / dayMs);
/** Some days' worth, since a plan for several partitions has other choices than one for one. */
const backlogDays = 4;
const eventsPerDay = 5_000;
/** Some times what one request asks for here, far less than the log holds. */
const rowsMax = 3_000;

interface PlanNode {
  readonly 'Actual Rows': number;
  readonly 'Actual Loops': number;
  readonly 'Rows Removed by Filter'?: number;
  readonly 'Rows Removed by Join Filter'?: number;
  readonly Plans?: readonly PlanNode[];
}

/** The most rows that any step of the plan came by. */
function rowsTouched(node: PlanNode): number {
  const rows = node['Actual Rows'] * node['Actual Loops'];
  const removed = (node['Rows Removed by Filter'] ?? 0) + (node['Rows Removed by Join Filter'] ?? 0);
  return Math.max(rows, removed, ...(node.Plans ?? []).map(rowsTouched));
}

let texts = 0;

/** The same database; tells what each statement that reads events, before it is run, costs. `alter` may change its text. */
function explaining(
  database: Database,
  onRows: (rows: number) => void,
  alter = (text: string): string => text,
): Database {
  const explain = async (
    statement: Statement,
    values: readonly unknown[],
    real: Transaction['query'],
  ): Promise<void> => {
    const text = `EXPLAIN (ANALYZE, FORMAT JSON) ${alter(statement.text)}`;
    const plan = await real<{ 'QUERY PLAN': [{ Plan: PlanNode }] }>({ name: `test_explain_${++texts}`, text }, values);
    const root = plan.rows[0]?.['QUERY PLAN'][0].Plan;
    assert.ok(root);
    onRows(rowsTouched(root));
  };
  return intercept(database, async (statement, values, real) => {
    if (/^\s*SELECT/.test(statement.text) && statement.text.includes('events AS e'))
      await explain(statement, values, real);
    return real(statement, values);
  });
}

describe('the cost of a request does not grow with what is pending', () => {
  for (const engine of engineNames) {
    describe(`on ${engine}`, () => {
      let storage: TestStorage | null;
      let database: Database;
      let org: string;
      before(async () => {
        storage = await createStorage(engine);
        if (storage === null) return;
        database = await openLog(storage);
        org = await newLog(database, nowMs);
        const events = Array.from({ length: eventsPerDay }, () => ({}));
        for (let n = 0; n < backlogDays; n++) await append(database, org, events, nowMs + n * dayMs);
      });
      after(async () => {
        if (storage === null) return;
        await database.close();
        await storage.remove();
      });

      let leases = 0;
      async function costliest(alter?: (text: string) => string): Promise<number> {
        let most = 0;
        let statements = 0;
        const watched = explaining(
          database,
          (rows) => {
            most = Math.max(most, rows);
            statements++;
          },
          alter,
        );
        const lease = `lse_${++leases}`;
        const common = { org, subscription: 0, wantsPayload: true, nowMs };
        await receive(watched, { ...common, eventsMax: 50, lease, leaseEndsAtMs: nowMs + 60_000 });
        await peek(watched, { ...common, status: undefined, types: null, limit: 50, after: null });
        const many = { ...common, wantsPayload: false, eventsMax: 1_000, lease: `${lease}_many` };
        await receive(watched, { ...many, leaseEndsAtMs: nowMs + 60_000 });
        const far = [12_000 + leases * 100, 12_050 + leases * 100];
        await acknowledge(
          watched,
          org,
          0,
          far.map((position) => ({ epoch: 1, position, day: day + Math.floor((position - 1) / eventsPerDay) })),
        );
        assert.ok(statements >= 5, `${statements} statements read events`);
        return most;
      }

      for (const statistics of ['without statistics', 'with statistics']) {
        test(`to receive, list or acknowledge (${statistics})`, async (t) => {
          if (storage === null) return t.skip('no PostgreSQL');
          if (statistics === 'with statistics') await asOwner(database, 'ANALYZE');
          const rows = await costliest();
          assert.ok(rows <= rowsMax, `${rows} rows`);
        });
      }

      test('but it would, if the planner were free to join ranges with the whole log', async (t) => {
        if (storage === null) return t.skip('no PostgreSQL');
        const rows = await costliest((text) =>
          text.replace('ORDER BY e.position LIMIT LEAST($6::bigint + 1, upper(r) - lower(r))', ''),
        );
        assert.ok(rows > rowsMax, `${rows} rows`);
      });
    });
  }
  after(stopServers);
});
