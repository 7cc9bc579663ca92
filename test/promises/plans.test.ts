/**
 * What a statement looks at must follow what is asked for, not what is stored: every statement that a request runs, on a log of 90 days and 1,000
 * orgs, with its plan. Statements of the background may look at a row an org.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { composeServer } from '../../src/compose.js';
import type { RunningServer } from '../../src/app.js';
import type { Database, Statement, Transaction } from '../../src/db/database.js';
import { scanEvents } from '../../src/db/sql/events.js';
import { createPartition, existingPartitions, partitionName } from '../../src/db/sql/partitions.js';
import { encodeEventId } from '../../src/event-log/event-id.js';
import { decodeOrgId } from '../../src/ids.js';
import { createLogger } from '../../src/log.js';
import { deleteCertificates, runningErasures } from '../../src/db/sql/erasures.js';
import { eraseStep } from '../../src/subscriptions/erase.js';
import { expireBefore } from '../../src/subscriptions/expire.js';
import { systemClock } from '../../src/clock.js';
import { Erasures } from '../../src/tenancy/erasures.js';
import { Client, createOrg } from '../support/client.js';
import type { TestOrg } from '../support/client.js';
import { asOwner, intercept, openLog } from '../support/log.js';
import { adminToken, testConfig } from '../support/node.js';
import type { PlanNode } from '../support/plans.js';
import { rowsTouched, stepsOf } from '../support/plans.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';

after(stopServers);

const isSoak = process.env['SLUICE_TEST_SOAK'] === '1';
const eventsStored = isSoak ? 1_000_000 : 100_000;
const orgsStored = 1_000;
const days = 90;
/** Far more than any request here asks for, far less than its org has. */
const rowsMax = 12_000;
/** One statement of a list opens no more partitions. */
const partitionsMax = 33;

interface Seen {
  readonly name: string;
  readonly problem: string;
}

for (const engine of engineNames) {
  const storage = await createStorage(engine);
  describe(`on ${engine}`, { skip: storage === null ? 'no PostgreSQL on this machine' : false }, () => {
    if (storage !== null) describePlans(storage);
  });
}

function describePlans(storage: TestStorage): void {
  let database: Database;
  let node: RunningServer;
  let org: TestOrg;
  const problems: Seen[] = [];
  const looked = new Set<string>();
  let statements = 0;
  let explains = false;
  let few: ReadonlySet<string> = new Set();

  const today = Math.floor(Date.now() / 86_400_000);

  before(async () => {
    database = await openLog(storage);
    const watched = intercept(database, async (statement, values, real) => {
      statements++;
      if (explains) await look(statement, values, real);
      return real(statement, values);
    });
    const config = testConfig(storage);
    const log = createLogger(config.logLevel);
    const stats = () => ({ sessionsInUse: 0, waiting: 0, serviceMs: 0, refused: 0 });
    const parts = { config, log, onProgress: () => {}, clock: systemClock, stats, embedded: null, ingestLanes: 1 };
    node = await composeServer({ ...parts, database: watched });
    org = await createOrg(node.address);
    await new Client(node.address, adminToken).call('PATCH', `/v1/orgs/${org.id}`, {
      limits: { rate_per_minute: 1_000_000, burst: 1_000_000 },
    });
    await fill(database, decodeOrgId(org.id) ?? '', today);
    few = await tablesOfFewRows(database);
    explains = true;
  });
  after(async () => {
    await node.stop();
    await database.close();
    await storage.remove();
  });

  async function look(statement: Statement, values: readonly unknown[], real: Transaction['query']): Promise<void> {
    if (!/^\s*(?:SELECT|WITH|INSERT|UPDATE|DELETE)/.test(statement.text)) return;
    const reads =
      /^\s*(?:SELECT|WITH)/.test(statement.text) && !/INSERT|UPDATE|DELETE|set_config|pg_notify/.test(statement.text);
    const text = `EXPLAIN (${reads ? 'ANALYZE, ' : ''}FORMAT JSON) ${statement.text}`;
    const { rows } = await real<{ 'QUERY PLAN': [{ Plan: PlanNode }] }>(
      { name: `plan_${statement.name}`, text },
      values,
    );
    const plan = rows[0]?.['QUERY PLAN'][0].Plan;
    assert.ok(plan);
    looked.add(statement.name);
    for (const problem of problemsOf(plan, few)) problems.push({ name: statement.name, problem });
  }

  const request = async (method: string, path: string, body?: unknown): Promise<Record<string, unknown>> => {
    const answer = await org.client.call(method, path, body);
    assert.ok(answer.status < 300, `${method} ${path}: ${answer.status} ${answer.text}`);
    return answer.json as Record<string, unknown>;
  };

  it('no statement of a request reads a table from end to end, or partitions of days that it does not name', async () => {
    const address = { org: decodeOrgId(org.id) ?? '', epoch: 1, position: 500, day: today - days + 5 };
    const id = encodeEventId({ ...address, position: await anyPosition(database, address.org, address.day) });
    await request('POST', '/v1/events', { type: 'a.b', payload: 1, dedup_id: 'x' });
    await request('POST', '/v1/events/batch?atomic=true', [{ type: 'a', payload: 1 }]);
    const since = new Date((today - 40) * 86_400_000 + 3_600_000).toISOString();
    for (const query of [
      '',
      '?order=asc',
      '?type=a.*',
      '?type=none&order=asc',
      `?since=${since}`,
      `?until=${since}&limit=1000`,
    ]) {
      const page = await request('GET', `/v1/events${query}`);
      const next = page['next_cursor'] as string | null;
      if (next !== null)
        await request('GET', `/v1/events${query}${query === '' ? '?' : '&'}cursor=${encodeURIComponent(next)}`);
    }
    await request('GET', `/v1/events/${id}`);
    await request('GET', `/v1/events/${id}/deliveries`);
    await request('POST', '/v1/inboxes', { name: 'some', types: ['a.*'], start: 'beginning' });
    await request('POST', '/v1/inboxes', { name: 'timed', start: since });
    for (const inbox of ['/v1/inbox', '/v1/inboxes/some', '/v1/inboxes/timed']) {
      const { lease_id: lease, data } = await request('POST', `${inbox}/receive`, { max: 100 });
      const ids = (data as { id: string }[]).map((event) => event.id);
      await request('POST', `${inbox}/extend`, { lease_id: lease, lease_seconds: 60 });
      await request('POST', `${inbox}/nack`, { ids: ids.slice(0, 10) });
      await request('POST', `${inbox}/ack`, { ids: ids.slice(5, 20) });
      await request('POST', `${inbox}/ack`, { lease_id: lease });
      await request('POST', `${inbox}/receive`, { max: 100 });
      await request('DELETE', `${inbox}/${id}`);
      for (const status of ['', '?status=pending', '?status=leased', '?status=dead', '?status=delivered&type=a.*']) {
        await request('GET', `${inbox === '/v1/inbox' ? inbox : `${inbox}/events`}${status}`);
      }
      await request('POST', `${inbox}/redrive`, { all: true });
      await request('POST', `${inbox}/seek`, { to: since });
      await request('POST', `${inbox}/seek`, { to: id });
      await request('POST', `${inbox}/seek`, { to: 'beginning' });
      await request('POST', `${inbox}/receive`, { max: 1000 });
    }
    await request('PATCH', '/v1/inboxes/some', { types: ['b'] });
    await request('GET', '/v1/inboxes');
    await request('DELETE', '/v1/inboxes/some');
    const key = await request('POST', '/v1/keys', { name: 'k' });
    await request('GET', '/v1/keys');
    await request('POST', `/v1/keys/${key['id'] as string}/rotate`, {});
    await request('GET', '/v1/org');
    await request('GET', '/v1/audit');
    assert.deepEqual([...new Set(problems.map(({ name, problem }) => `${name}: ${problem}`))], []);
    assert.ok(looked.size > 40, `${looked.size} statements were looked at: ${[...looked].join(', ')}`);
  });

  it('a page of 1 and one of 1,000 take the same number of statements', async () => {
    explains = false;
    const cost = async (path: string, limit: number): Promise<number> => {
      await request('GET', '/v1/org');
      const costs: number[] = [];
      for (let i = 0; i < 3; i++) {
        const earlier = statements;
        await request('GET', `${path}${path.includes('?') ? '&' : '?'}limit=${limit}`);
        costs.push(statements - earlier);
      }
      // The background's statements, now and then, are counted too.
      return Math.min(...costs);
    };
    for (const path of [
      '/v1/events',
      '/v1/events?order=asc&fields=id',
      '/v1/inbox?status=pending',
      '/v1/keys',
      '/v1/audit',
      '/v1/inboxes',
    ]) {
      assert.equal(await cost(path, 1_000), await cost(path, 1), path);
    }
    explains = true;
  });

  it('an org’s retention looks at what it expires, and no further', async () => {
    problems.length = 0;
    const watched = intercept(database, async (statement, values, real) => {
      await look(statement, values, real);
      return real(statement, values);
    });
    const day = today - days + 10;
    while (!(await expireBefore(watched, decodeOrgId(org.id) ?? '', day)));
    const found = problems.filter(({ name, problem }) => name !== 'subscription_stats' || !problem.includes('rows'));
    assert.deepEqual(found, []);
  });

  it('an erasure looks at the log of its org, a bounded part a step, and deletes by place', async () => {
    problems.length = 0;
    const watched = intercept(database, async (statement, values, real) => {
      await look(statement, values, real);
      return real(statement, values);
    });
    const erasures = new Erasures(watched, systemClock, () => {});
    const number = decodeOrgId(org.id) ?? '';
    const { id } = await erasures.request(number, 'somebody', 'key_test');
    await runningErasures(watched, '0', 100);
    let steps = 0;
    for (let isDone = false; !isDone; steps++) {
      await eraseStep(watched, number, id, today - days + 1, new Date());
      const erasure = await erasures.find(number, id);
      isDone = erasure?.isDone ?? true;
      if (isDone) assert.ok((erasure?.counts.events?.rows ?? 0) > 500);
    }
    await deleteCertificates(watched, new Date(), 100);
    assert.ok(steps > 3, `${steps} steps`);
    for (const name of ['erasure_scan', 'erasure_delete_events', 'erasure_running', 'erasure_delete_old'])
      assert.ok(looked.has(name), name);
    assert.deepEqual([...new Set(problems.map(({ name, problem }) => `${name}: ${problem}`))], []);
  });

  it('a scan reads what it is to find, not all of the days it may look into; with both ends of a range in sight it would', async () => {
    const first = today - days + 1;
    for (let n = 0; n < 8; n++) {
      const text = `INSERT INTO events (org, epoch, position, day, type, received_at, payload)
        SELECT 2, 1, 10000000 + ${n} * 20000 + i, ${first + n}, 'b', now(), '1' FROM generate_series(1, 20000) AS i`;
      await asOwner(database, text);
    }
    await asOwner(database, 'ANALYZE');
    let explained = 0;
    const rowsOf = async (alter: (text: string) => string): Promise<number> => {
      let rows = 0;
      await database.transaction({ role: 'app', org: '2', priority: 'read' }, async (tx) => {
        const query = (async ({ name, text }: Statement, values: readonly unknown[]) => {
          const explain = {
            name: `explain_${name}_${++explained}`,
            text: `EXPLAIN (ANALYZE, FORMAT JSON) ${alter(text)}`,
          };
          const plan = (await tx.query<{ 'QUERY PLAN': [{ Plan: PlanNode }] }>(explain, values)).rows[0];
          assert.ok(plan);
          rows = rowsTouched(plan['QUERY PLAN'][0].Plan);
          return { rows: [], rowCount: 0 };
        }) as Transaction['query'];
        const span = { first, last: first + 7 };
        await scanEvents({ ...tx, query }, '2', '{[10000000,20000000)}', span, [null, null], 1_001);
      });
      return rows;
    };
    const rows = await rowsOf((text) => text);
    assert.ok(rows <= 1_001, `${rows} rows`);
    const both = 'AND e.position >= lower(r) AND e.position < upper(r)';
    const otherwise = await rowsOf((text) =>
      text.replace('AND e.position >= lower(r)', both).replace('LEAST($7, upper(r) - lower(r))', '$7'),
    );
    assert.ok(otherwise > 100_000, `${otherwise} rows`);
  });

  it('a plan that does not name its days, or its org, is noticed', async () => {
    const scope = { role: 'owner' } as const;
    for (const text of [
      'SELECT count(*) FROM events WHERE org = 1',
      'SELECT count(*) FROM dedup WHERE body_hash IS NOT NULL',
      `SELECT count(*) FROM events WHERE day = ${today - 3}`,
    ]) {
      const explain = { name: `plan_control_${text.length}`, text: `EXPLAIN (ANALYZE, FORMAT JSON) ${text}` };
      const { rows } = await database.query<{ 'QUERY PLAN': [{ Plan: PlanNode }] }>(scope, explain);
      const plan = rows[0]?.['QUERY PLAN'][0].Plan;
      assert.ok(plan !== undefined && problemsOf(plan, few).length > 0, text);
    }
  });
}

function problemsOf(plan: PlanNode, few: ReadonlySet<string>): string[] {
  const steps = stepsOf(plan);
  // A table of a few rows is read faster than its index.
  const whole = steps.filter((step) => step['Node Type'] === 'Seq Scan' && !few.has(step['Relation Name'] ?? ''));
  const partitions = new Set(
    steps.map((step) => step['Relation Name'] ?? '').filter((name) => /^events_\d+$/.test(name)),
  );
  const most = Math.max(
    ...steps.map(
      (step) => (step['Actual Rows'] ?? 0) * (step['Actual Loops'] ?? 0) + (step['Rows Removed by Filter'] ?? 0),
    ),
  );
  return [
    ...whole.map((step) => `reads all of ${step['Relation Name']}`),
    ...(partitions.size > partitionsMax ? [`opens ${partitions.size} partitions`] : []),
    ...(most > rowsMax ? [`comes by ${most} rows`] : []),
  ];
}

/** The tables of at most 100 rows, and those of which nothing is known since nothing was in them. */
async function tablesOfFewRows(database: Database): Promise<ReadonlySet<string>> {
  const text = `SELECT relname FROM pg_class WHERE relkind = 'r' AND reltuples <= 100`;
  const { rows } = await database.query<{ relname: string }>({ role: 'owner' }, { name: 'test_few', text });
  return new Set(rows.map(({ relname }) => relname));
}

async function anyPosition(database: Database, org: string, day: number): Promise<number> {
  const text = `SELECT min(position) AS position FROM events WHERE org = $1 AND day = $2 AND type = 'a.x'`;
  const { rows } = await database.query<{ position: string }>({ role: 'owner' }, { name: 'test_any', text }, [
    org,
    day,
  ]);
  return Number(rows[0]?.position);
}

/** One large org with a fifth of all events, and many small ones, each with a subscription, a key, dedup ids and leases. */
async function fill(database: Database, large: string, today: number): Promise<void> {
  const existing = await existingPartitions(database);
  for (let day = today - days + 1; day < today; day++) {
    if (!existing.has(partitionName(day))) await createPartition(database, day);
  }
  const first = today - days + 1;
  const perDay = Math.floor(eventsStored / days);
  // The large org has much more in as many days as one statement opens: more than it may come by.
  const dense = 3_000;
  const perDayMax = perDay + dense;
  await asOwner(
    database,
    `
    INSERT INTO orgs (org, name, tier, created_at) SELECT o, 'o', 'pro', now() FROM generate_series(1, ${orgsStored}) AS o;
    INSERT INTO heads (org, epoch, position, day, received_at, first_position, first_day)
      SELECT o, 1, 0, ${first}, to_timestamp(${first} * 86400.0), 1, ${first} FROM generate_series(1, ${orgsStored}) AS o;
    INSERT INTO subscriptions (org, subscription, kind, name, max_attempts, cursor, cursor_day, created_at)
      SELECT o, 0, 'inbox', 'default', 10, 0, ${first}, now() FROM generate_series(1, ${orgsStored}) AS o;
    INSERT INTO audit_heads (org, sequence, hash) SELECT o, 0, decode(repeat('00', 32), 'hex') FROM generate_series(1, ${orgsStored}) AS o;
    INSERT INTO api_keys (org, key_id, hash, name, prefix, scopes, created_at)
      SELECT o, 'key_' || k, sha256(convert_to(o || ' ' || k, 'UTF8')), 'k', 'slk', '{}', now()
      FROM generate_series(1, ${orgsStored}) AS o, generate_series(1, 5) AS k`,
  );
  for (let n = 0; n < days; n++) {
    const day = first + n;
    await asOwner(
      database,
      `
      INSERT INTO events (org, epoch, position, day, type, subject, received_at, payload)
      SELECT CASE WHEN i % 5 = 0 THEN ${large} ELSE 1 + i % ${orgsStored} END, 1, ${n * perDayMax} + i, ${day},
        CASE WHEN i % 3 = 0 THEN 'a.x' ELSE 'b' END, CASE WHEN i % 15 = 0 THEN 'somebody' END, to_timestamp(${day} * 86400.0 + i * 0.01), '{"n":1}'
      FROM generate_series(1, ${perDay}) AS i;
      INSERT INTO events (org, epoch, position, day, type, received_at, payload)
      SELECT ${large}, 1, ${n * perDayMax + perDay} + i, ${day}, 'b', to_timestamp(${day} * 86400.0 + 80000), '{"n":1}'
      FROM generate_series(1, ${n < 8 ? dense : 0}) AS i;
      INSERT INTO dedup (org, dedup_id, epoch, position, day, received_at, body_hash)
      SELECT 1 + i % ${orgsStored}, 'd' || ${day} || '-' || i, 1, ${n * perDayMax} + i, ${day}, now(), sha256('a')
      FROM generate_series(1, ${perDay}, 10) AS i`,
    );
  }
  const last = days * perDayMax;
  await asOwner(
    database,
    `
    UPDATE heads SET position = ${last + 1}, day = ${today}, received_at = GREATEST(received_at, to_timestamp(${today} * 86400.0)), first_day = ${first};
    UPDATE subscriptions SET cursor_day = ${first}, cursor = 0;
    INSERT INTO leases (org, subscription, lease, attempt, available_at, positions, first_day, last_day)
      SELECT o, 0, 'lse_' || l, 1, now() + interval '1 hour', int8multirange(int8range(l * 10, l * 10 + 1)), ${first}, ${first}
      FROM generate_series(1, ${orgsStored}) AS o, generate_series(1, 20) AS l;
    ANALYZE`,
  );
}
