/**
 * What each role of the database may do, read from the catalog after the migrations: a table, a grant or a policy that is not in the lists
 * below fails here, so that it is thought about.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Database, Scope } from '../../src/db/database.js';
import { insertOrg } from '../../src/db/sql/tenancy.js';
import { appendBatch } from '../../src/event-log/append.js';
import { newEvent } from '../support/event-log.js';
import { openLog } from '../support/log.js';
import { refused } from '../support/conformance.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';

const owner: Scope = { role: 'owner' };
/** With rows that belong to an org. */
const orgTables = [
  'api_keys',
  'audit_heads',
  'audit_log',
  'dead_letters',
  'dedup',
  'erasures',
  'events',
  'heads',
  'leases',
  'orgs',
  'subscriptions',
];
/** What is left of an org that was deleted. */
const tombstones = 'deleted_orgs';

/** Of every table but the partitions. Columns in parentheses where a grant is not for the whole table. */
const grants = [
  'sluice_app: DELETE api_keys',
  'sluice_app: DELETE dead_letters',
  'sluice_app: DELETE leases',
  'sluice_app: DELETE subscriptions',
  'sluice_app: INSERT api_keys',
  'sluice_app: INSERT audit_log',
  'sluice_app: INSERT dead_letters',
  'sluice_app: INSERT erasures',
  'sluice_app: INSERT leases',
  'sluice_app: INSERT subscriptions',
  'sluice_app: SELECT api_keys',
  'sluice_app: SELECT audit_heads',
  'sluice_app: SELECT audit_log',
  'sluice_app: SELECT dead_letters',
  'sluice_app: SELECT erasures',
  'sluice_app: SELECT events',
  'sluice_app: SELECT heads',
  'sluice_app: SELECT leases',
  'sluice_app: SELECT orgs',
  'sluice_app: SELECT subscriptions',
  'sluice_app: UPDATE api_keys',
  'sluice_app: UPDATE audit_heads (hash)',
  'sluice_app: UPDATE audit_heads (sequence)',
  'sluice_app: UPDATE dead_letters',
  ...['subject', 'covers_until', 'last_position', 'last_day', 'position', 'day', 'began_at', 'ended_at', 'counts'].map(
    (column) => `sluice_app: UPDATE erasures (${column})`,
  ),
  'sluice_app: UPDATE leases',
  'sluice_app: UPDATE subscriptions (ahead)',
  'sluice_app: UPDATE subscriptions (cursor)',
  'sluice_app: UPDATE subscriptions (cursor_day)',
  'sluice_app: UPDATE heads (first_day)',
  'sluice_app: UPDATE heads (first_position)',
  'sluice_app: UPDATE subscriptions (dead)',
  'sluice_app: UPDATE subscriptions (erased)',
  'sluice_app: UPDATE subscriptions (expired)',
  'sluice_app: UPDATE subscriptions (filters)',
  'sluice_app: UPDATE subscriptions (held)',
  'sluice_app: UPDATE subscriptions (max_attempts)',
  'sluice_app: UPDATE subscriptions (skipped)',
  ...orgTables.map((table) => `sluice_erasure: DELETE ${table}`),
  'sluice_erasure: SELECT api_keys (key_id)',
  'sluice_erasure: SELECT api_keys (org)',
  'sluice_erasure: SELECT audit_heads (org)',
  'sluice_erasure: SELECT audit_log (org)',
  'sluice_erasure: SELECT audit_log (sequence)',
  'sluice_erasure: SELECT dead_letters (org)',
  'sluice_erasure: SELECT dead_letters (position)',
  'sluice_erasure: SELECT dead_letters (subscription)',
  'sluice_erasure: SELECT dedup (day)',
  'sluice_erasure: SELECT dedup (dedup_id)',
  'sluice_erasure: SELECT dedup (org)',
  'sluice_erasure: SELECT deleted_orgs',
  ...['org', 'erasure', 'subject', 'requested_at', 'last_position', 'ended_at'].map(
    (column) => `sluice_erasure: SELECT erasures (${column})`,
  ),
  'sluice_erasure: SELECT events (day)',
  'sluice_erasure: SELECT events (org)',
  'sluice_erasure: SELECT events (position)',
  'sluice_erasure: SELECT heads (day)',
  'sluice_erasure: SELECT heads (first_position)',
  'sluice_erasure: SELECT heads (org)',
  'sluice_erasure: SELECT leases (lease)',
  'sluice_erasure: SELECT leases (org)',
  'sluice_erasure: SELECT leases (subscription)',
  'sluice_erasure: SELECT orgs (org)',
  'sluice_erasure: SELECT subscriptions (org)',
  'sluice_erasure: SELECT subscriptions (subscription)',
  'sluice_erasure: UPDATE deleted_orgs (erased_at)',
  'sluice_ingest: INSERT dedup',
  'sluice_ingest: SELECT dedup',
  'sluice_ingest: SELECT heads',
  'sluice_ingest: UPDATE heads (day)',
  'sluice_ingest: UPDATE heads (epoch)',
  'sluice_ingest: UPDATE heads (position)',
  'sluice_ingest: UPDATE heads (received_at)',
  'sluice_ingest: UPDATE heads (server_run)',
  'sluice_system: INSERT api_keys',
  'sluice_system: INSERT audit_heads',
  'sluice_system: INSERT audit_log',
  'sluice_system: INSERT deleted_orgs',
  'sluice_system: INSERT heads',
  'sluice_system: INSERT orgs',
  'sluice_system: INSERT subscriptions',
  'sluice_system: SELECT access_versions',
  'sluice_system: SELECT api_keys',
  'sluice_system: SELECT audit_heads',
  'sluice_system: SELECT deleted_orgs',
  'sluice_system: SELECT heads',
  'sluice_system: SELECT leases',
  'sluice_system: SELECT orgs',
  'sluice_system: SELECT subscriptions',
  'sluice_system: UPDATE api_keys (last_used_at)',
  'sluice_system: UPDATE audit_heads (closed)',
  'sluice_system: UPDATE audit_heads (hash)',
  'sluice_system: UPDATE audit_heads (sequence)',
  'sluice_system: UPDATE heads (purged_day)',
  'sluice_system: UPDATE orgs',
];

const ownOrg = "(org = (NULLIF(current_setting('sluice.org'::text, true), ''::text))::bigint)";
const deleted = (table: string, not = ''): string => {
  const exists = `EXISTS ( SELECT\n   FROM deleted_orgs d\n  WHERE (d.org = ${table}.org))`;
  return not === '' ? `(${exists})` : `(${not} (${exists}))`;
};
const policies = [
  ...orgTables.map((table) => `${table}: sluice_app ${ownOrg}`),
  ...orgTables.map((table) => `${table}: sluice_erasure ${deleted(table)}`),
  'api_keys: sluice_system true',
  'audit_heads: sluice_system true',
  'audit_log: sluice_system true',
  'heads: sluice_erasure true and more',
  'dedup: sluice_erasure (day < (( SELECT max(h.day) AS max\n   FROM heads h) - 1))',
  `events: sluice_erasure (EXISTS ( SELECT\n   FROM heads h\n  WHERE ((h.org = events.org) AND (events."position" < h.first_position))))`,
  'erasures: sluice_erasure true and more',
  `erasures: sluice_erasure (ended_at < (now() - '365 days'::interval)) and more`,
  `events: sluice_erasure (EXISTS ( SELECT\n   FROM erasures s\n  WHERE ((s.org = events.org) AND (s.subject = events.subject) AND (events."position" <= s.last_position))))`,
  'deleted_orgs: sluice_erasure true',
  'deleted_orgs: sluice_system true',
  'dedup: sluice_ingest true',
  'heads: sluice_ingest true',
  'heads: sluice_system true',
  'leases: sluice_system true',
  `orgs: sluice_system ${deleted('orgs', 'NOT')}`,
  'subscriptions: sluice_system true',
];

const catalog = {
  orgTables: `
    SELECT c.relname AS line, c.relrowsecurity AND c.relforcerowsecurity AS secure
    FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
      AND a.attname = 'org' AND NOT a.attisdropped
    ORDER BY 1`,
  policies: `
    SELECT format('%s: %s %s%s', tablename, array_to_string(roles, ','), qual,
      CASE WHEN cmd <> 'ALL' OR permissive <> 'PERMISSIVE' OR with_check IS NOT NULL THEN ' and more' END) AS line
    FROM pg_policies ORDER BY 1`,
  grants: `
    SELECT format('%s: %s %s%s', CASE WHEN acl.grantee = 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END, acl.privilege_type,
      granted.relname, granted.columns || CASE WHEN acl.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) AS line, granted.relispartition AS partition
    FROM (
      SELECT c.relname, c.relowner, c.relispartition, '' AS columns, c.relacl AS acl
      FROM pg_class AS c WHERE c.relnamespace = 'public'::regnamespace
      UNION ALL
      SELECT c.relname, c.relowner, c.relispartition, format(' (%s)', a.attname), a.attacl
      FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid WHERE c.relnamespace = 'public'::regnamespace
    ) AS granted CROSS JOIN LATERAL aclexplode(granted.acl) AS acl
    WHERE acl.grantee <> granted.relowner
    ORDER BY 1`,
  partitions: `
    SELECT c.relname AS line, c.relrowsecurity OR c.relforcerowsecurity OR EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid) AS secure
    FROM pg_class AS c JOIN pg_inherits AS i ON i.inhrelid = c.oid WHERE i.inhparent = 'events'::regclass ORDER BY 1`,
  roles: `
    SELECT rolname AS line, rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication
      OR EXISTS (SELECT FROM pg_auth_members AS m WHERE m.member = r.oid) AS mighty
    FROM pg_roles AS r WHERE starts_with(rolname, 'sluice_') ORDER BY 1`,
  otherWays: `
    SELECT format('%s %s', 'function', oid::regprocedure) AS line FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT format('%s %s', 'default privilege of', defaclrole::regrole) FROM pg_default_acl
    UNION ALL SELECT format('%s may %s in schema public', CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE grantee::regrole::text END, privilege_type)
    FROM pg_namespace CROSS JOIN LATERAL aclexplode(nspacl) WHERE oid = 'public'::regnamespace AND grantee <> nspowner
    ORDER BY 1`,
};

interface Line {
  readonly line: string;
  readonly secure?: boolean;
  readonly mighty?: boolean;
  readonly partition?: boolean;
}

async function read(database: Database, name: keyof typeof catalog): Promise<Line[]> {
  return (await database.query<Line>(owner, { name: `test_${name}`, text: catalog[name] })).rows;
}

const linesOf = (rows: readonly Line[]): string[] => rows.map(({ line }) => line).toSorted();

/** The rows of a table that a transaction sees. */
async function count(database: Database, scope: Scope, table: string): Promise<number> {
  const statement = { name: `test_count_${table}`, text: `SELECT count(*)::integer AS rows FROM ${table}` };
  return (await database.query<{ rows: number }>(scope, statement)).rows[0]?.rows ?? -1;
}

const storages = await Promise.all(engineNames.map(createStorage));
after(stopServers);

for (const [i, engine] of engineNames.entries()) {
  const storage = storages[i] ?? null;
  describe(`the roles on ${engine}`, { skip: storage === null ? 'no PostgreSQL on this machine' : false }, () => {
    if (storage !== null) describeRoles(storage);
  });
}

function describeRoles(storage: TestStorage): void {
  const orgs = ['1001', '1002'];
  let database: Database;
  before(async () => {
    database = await openLog(storage);
    for (const org of orgs) {
      await database.transaction({ role: 'system' }, (tx) =>
        insertOrg(tx, { org, name: 'test', tier: 'pro', createdAt: new Date() }),
      );
      await appendBatch(database, [newEvent(org, '1', 'a dedup id')], Date.now());
    }
  });
  after(async () => {
    await database.close();
    await storage.remove();
  });

  it('find row-level security enabled and forced on every table with an org', async () => {
    assert.deepEqual(
      await read(database, 'orgTables'),
      [...orgTables, tombstones].toSorted().map((line) => ({ line, secure: true })),
    );
  });

  it('have the policies that are listed here, and no other', async () => {
    assert.deepEqual(linesOf(await read(database, 'policies')), policies.toSorted());
  });

  it('have the grants that are listed here, and no other; PUBLIC has none', async () => {
    const rows = (await read(database, 'grants')).filter(({ partition }) => partition === false);
    assert.deepEqual(linesOf(rows), grants.toSorted());
  });

  it('reach a partition of events only to insert, as ingest; it has no policy', async () => {
    const partitions = await read(database, 'partitions');
    assert.ok(partitions.length >= 8 && partitions.every(({ secure }) => secure === false));
    const rows = (await read(database, 'grants')).filter(({ partition }) => partition === true);
    assert.deepEqual(
      linesOf(rows),
      partitions.map(({ line }) => `sluice_ingest: INSERT ${line}`),
    );
  });

  it('are no superusers, cannot pass row-level security by, and are members of nothing', async () => {
    assert.deepEqual(
      await read(database, 'roles'),
      ['sluice_app', 'sluice_erasure', 'sluice_ingest', 'sluice_system'].map((line) => ({ line, mighty: false })),
    );
  });

  it('find no function but those of triggers and one that reads no row, no default privilege and no right to create in the schema', async () => {
    assert.deepEqual(linesOf(await read(database, 'otherWays')), [
      'PUBLIC may USAGE in schema public',
      'function raise_access_version()',
      'function refuse_audit_change()',
      'function sluice_server_run()',
      'sluice_app may USAGE in schema public',
      'sluice_erasure may USAGE in schema public',
      'sluice_ingest may USAGE in schema public',
      'sluice_system may USAGE in schema public',
    ]);
  });

  it('cannot read events as ingest or system, in no way', async () => {
    const [first] = await read(database, 'partitions');
    for (const role of ['ingest', 'system'] as const)
      for (const table of ['events', first?.line ?? ''])
        await assert.rejects(count(database, { role }, table), refused('42501'));
    await assert.rejects(count(database, { role: 'app', org: orgs[0] ?? '' }, first?.line ?? ''), refused('42501'));
  });

  it('cannot change the owner’s tables', async () => {
    for (const role of ['ingest', 'app', 'system', 'erasure'] as const) {
      for (const text of [
        'ALTER TABLE events DISABLE ROW LEVEL SECURITY',
        'DROP POLICY app_own_org ON events',
        'TRUNCATE api_keys',
        'CREATE TABLE sneaked (a int)',
        'SELECT FROM server_secrets',
        'SELECT FROM schema_migrations',
        'SELECT FROM imports',
      ])
        await assert.rejects(
          database.transaction({ role }, (tx) => tx.script(text)),
          refused('42501'),
          `${role}: ${text}`,
        );
    }
  });

  it('see and delete as erasure the rows of deleted orgs, and of no other', async () => {
    const [dead, alive] = orgs;
    const seen = database.transaction(owner, async (tx) => {
      await tx.script(`
        INSERT INTO deleted_orgs VALUES (${dead}, 1, now(), 'admin', decode(repeat('00', 32), 'hex'), decode(repeat('00', 32), 'hex'));
        SET LOCAL ROLE sluice_erasure`);
      for (const table of orgTables) {
        const text = `DELETE FROM ${table} WHERE org = ${alive}`;
        assert.equal((await tx.query({ name: `test_delete_${table}`, text })).rowCount, 0, table);
      }
      const text = `DELETE FROM events WHERE org IN (${dead}, ${alive})`;
      assert.equal((await tx.query({ name: 'test_delete_dead', text })).rowCount, 1);
      await assert.rejects(tx.script('SELECT payload FROM events'), refused('42501'));
      throw new Error('undone');
    });
    await assert.rejects(seen, /undone/);
  });

  it('see as app the rows of the org that is set, and none without one', async () => {
    const visible = ['orgs', 'heads', 'events', 'subscriptions'];
    for (const table of visible) {
      assert.equal(await count(database, owner, table), 2);
      for (const org of orgs) assert.equal(await count(database, { role: 'app', org }, table), 1);
      assert.equal(await count(database, { role: 'app', org: '1003' }, table), 0);
      assert.equal(await count(database, { role: 'app' }, table), 0);
    }
  });

  it('see as app no rows with the empty string that an earlier transaction leaves behind', async () => {
    const seen = await database.transaction({ role: 'app', org: orgs[0] ?? '' }, async (tx) => {
      const statement = {
        name: 'test_with_setting',
        text: `SELECT current_setting('sluice.org', true) AS org, count(e.org)::integer AS events FROM events AS e`,
      };
      const own = await tx.query(statement);
      await tx.script(`SET LOCAL sluice.org = ''`);
      return [...own.rows, ...(await tx.query(statement)).rows];
    });
    assert.deepEqual(seen, [
      { org: orgs[0], events: 1 },
      { org: '', events: 0 },
    ]);
  });

  it('would be caught with one grant or one policy more', async () => {
    const lines = (name: keyof typeof catalog, change: string) =>
      database.transaction(owner, async (tx) => {
        await tx.script(change);
        const { rows } = await tx.query<Line>({ name: `test_${name}`, text: catalog[name] });
        await tx.script('ROLLBACK TO SAVEPOINT before');
        return linesOf(rows.filter(({ partition }) => partition !== true));
      });
    const inSavepoint = (change: string): string => `SAVEPOINT before; ${change}`;
    assert.notDeepEqual(await lines('grants', inSavepoint('GRANT SELECT (payload) ON events TO PUBLIC')), grants);
    assert.notDeepEqual(
      await lines('policies', inSavepoint('CREATE POLICY more ON leases TO sluice_app USING (true)')),
      policies.toSorted(),
    );
    assert.deepEqual(await lines('grants', 'SAVEPOINT before'), grants.toSorted());
  });
}
