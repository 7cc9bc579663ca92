import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { canonicalJson, chainBreak, chainStart } from '../../src/audit-chain.js';
import type { AuditedChange } from '../../src/audit-chain.js';
import { systemClock } from '../../src/clock.js';
import type { Database } from '../../src/db/database.js';
import { StorageError } from '../../src/db/database.js';
import { listAudit, recordChanges } from '../../src/db/sql/audit.js';
import { Problem } from '../../src/errors.js';
import { Keys } from '../../src/tenancy/keys.js';
import { scopes } from '../../src/tenancy/scopes.js';
import type { TestOrg } from '../support/client.js';
import { Client, createOrg } from '../support/client.js';
import { refused } from '../support/conformance.js';
import { onEachEngine } from '../support/each-engine.js';
import type { EngineUnderTest } from '../support/each-engine.js';
import { asOwner, intercept, newLog, openLog } from '../support/log.js';
import { adminToken } from '../support/node.js';
import { assertProblem } from '../support/problem.js';
import { createStorage, engineNames } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';
import { orgsOf } from './erasing.js';

interface Row {
  readonly sequence: number;
  readonly at: string;
  readonly actor: string;
  readonly action: string;
  readonly target: string;
  readonly details: Record<string, unknown>;
  readonly previous_hash: string;
  readonly hash: string;
}

const pagesMax = 100;

/** The whole log, the oldest row first. */
async function auditOf({ client }: Pick<TestOrg, 'client'>, limit = 1000): Promise<Row[]> {
  const rows: Row[] = [];
  let cursor: string | null = null;
  let pages = 0;
  do {
    const more: string = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`;
    const answer = await client.get(`/v1/audit?limit=${limit}${more}`);
    assert.equal(answer.status, 200, answer.text);
    rows.push(...(answer.json.data as Row[]));
    cursor = answer.json.next_cursor;
    pages++;
  } while (cursor !== null && pages < pagesMax);
  return rows.toReversed();
}

const said = ({ actor, action, target, details }: Row) => ({ actor, action, target, details });

await onEachEngine({}, apiTests);

function apiTests({ node }: EngineUnderTest): void {
  let admin: Client;
  let org: TestOrg;
  before(async () => {
    admin = new Client(node().address, adminToken);
    org = await createOrg(node().address, 'pro', 'before');
  });

  it('each change of an org and its keys leaves a row that says who did what, and no secret', async () => {
    const [first, second] = await auditOf(org);
    assert.ok(first !== undefined && second !== undefined);
    assert.deepEqual(said(first), {
      actor: 'admin',
      action: 'org.created',
      target: org.id,
      details: { name: 'before', tier: 'pro' },
    });
    assert.deepEqual(said(second), {
      actor: 'admin',
      action: 'key.created',
      target: org.keyId,
      details: { name: 'first key', scopes, expires_at: null },
    });
    assert.ok(Math.abs(Date.parse(first.at) - Date.now()) < 60_000);

    const patch = (change: object) => admin.call('PATCH', `/v1/orgs/${org.id}`, change);
    await patch({ name: 'after', limits: { burst: 7, mode: 'shadow' }, tier: 'pro' });
    await patch({ suspended: true, name: 'again' });
    await patch({ suspended: false });
    // None of these changes anything.
    await patch({});
    await patch({ suspended: false, name: 'again', limits: { burst: 7 } });
    const made = await org.client.post('/v1/keys', { name: 'k', scopes: ['org:manage', 'keys:manage'] });
    const holder = new Client(node().address, made.json.key);
    const rotated = await holder.post(`/v1/keys/${made.json.id}/rotate`, { grace_seconds: 60 });
    assert.equal((await org.client.call('DELETE', `/v1/keys/${rotated.json.id}`)).status, 204);

    const all = await auditOf(org);
    assert.deepEqual(all.slice(2).map(said), [
      {
        actor: 'admin',
        action: 'org.changed',
        target: org.id,
        details: {
          name: { from: 'before', to: 'after' },
          'limits.burst': { from: null, to: 7 },
          'limits.mode': { from: 'enforce', to: 'shadow' },
        },
      },
      {
        actor: 'admin',
        action: 'org.changed',
        target: org.id,
        details: { name: { from: 'after', to: 'again' } },
      },
      { actor: 'admin', action: 'org.suspended', target: org.id, details: {} },
      { actor: 'admin', action: 'org.resumed', target: org.id, details: {} },
      {
        actor: org.keyId,
        action: 'key.created',
        target: made.json.id,
        details: { name: 'k', scopes: ['keys:manage', 'org:manage'], expires_at: null },
      },
      {
        actor: made.json.id,
        action: 'key.rotated',
        target: made.json.id,
        details: { name: 'k', to: rotated.json.id, grace_seconds: 60 },
      },
      { actor: org.keyId, action: 'key.deleted', target: rotated.json.id, details: { name: 'k' } },
    ]);
    const text = JSON.stringify(all);
    for (const secret of [org.key, made.json.key, rotated.json.key]) assert.ok(!text.includes(secret.slice(9)));
  });

  it('the rows of a reply are enough to prove the chain', async () => {
    let previous = '0'.repeat(64);
    for (const [i, row] of (await auditOf(org)).entries()) {
      // On its own: as docs/audit.md says it.
      const { sequence, at, actor, action, target, details, previous_hash } = row;
      const hashed = ['sluice-audit-1', org.id, sequence, at, actor, action, target, details, previous_hash];
      assert.deepEqual([sequence, previous_hash], [i + 1, previous]);
      assert.equal(
        row.hash,
        createHash('sha256')
          .update(JSON.stringify(sorted(hashed)))
          .digest('hex'),
      );
      previous = row.hash;
    }
  });

  it('changes at the same time are rows one behind the other', async () => {
    const own = await createOrg(node().address);
    const made = await Promise.all(
      Array.from({ length: 30 }, (_, i) => own.client.post('/v1/keys', { name: `k ${i}` })),
    );
    await Promise.all([
      ...made.slice(0, 10).map(({ json }) => own.client.call('DELETE', `/v1/keys/${json.id}`)),
      ...made.slice(10, 20).map(({ json }) => own.client.post(`/v1/keys/${json.id}/rotate`, {})),
      ...[1, 2, 3, 4].map((burst) => admin.call('PATCH', `/v1/orgs/${own.id}`, { limits: { burst: 1_000 * burst } })),
    ]);
    const rows = await auditOf(own);
    assert.equal(rows.length, 2 + 30 + 20 + 4);
    for (const [i, row] of rows.entries()) {
      assert.equal(row.sequence, i + 1);
      assert.equal(row.previous_hash, rows[i - 1]?.hash ?? '0'.repeat(64));
    }
  });

  it('is listed the newest first, on pages, to a key with org:manage only', async () => {
    const rows = await auditOf(org);
    assert.deepEqual(await auditOf(org, 2), rows);
    const { json } = await org.client.get('/v1/audit?limit=1');
    assert.equal(json.data[0].sequence, rows.length);
    const other = await createOrg(node().address);
    assertProblem(await other.client.get(`/v1/audit?limit=1&cursor=${json.next_cursor}`), 'invalid_cursor');
    assertProblem(await org.client.get(`/v1/keys?limit=1&cursor=${json.next_cursor}`), 'invalid_cursor');
    assertProblem(await org.client.get('/v1/audit?limit=0'), 'validation_failed');
    assertProblem(await org.client.get('/v1/audit?actor=admin'), 'validation_failed');
    const key = await org.client.post('/v1/keys', { name: 'x', scopes: scopes.filter((one) => one !== 'org:manage') });
    const problem = assertProblem(
      await new Client(node().address, key.json.key).get('/v1/audit'),
      'insufficient_scope',
    );
    assert.match(problem.detail, /org:manage/);
  });

  it('a change that is refused leaves no row', async () => {
    const earlier = await auditOf(org);
    assertProblem(await org.client.post('/v1/keys', { name: '' }), 'validation_failed');
    assertProblem(await org.client.call('DELETE', '/v1/keys/key_0'), 'not_found');
    assertProblem(await admin.call('PATCH', `/v1/orgs/${org.id}`, { tier: 'gold' }), 'validation_failed');
    const few = await org.client.post('/v1/keys', { name: 'few', scopes: ['keys:manage'] });
    const holder = new Client(node().address, few.json.key);
    assertProblem(await holder.post(`/v1/keys/${org.keyId}/rotate`, {}), 'insufficient_scope');
    assertProblem(await holder.call('DELETE', `/v1/keys/${org.keyId}`), 'insufficient_scope');
    assert.equal((await auditOf(org)).length, earlier.length + 1);
  });
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  const members = Object.entries(value).map(([name, member]) => [name, sorted(member)] as const);
  return Object.fromEntries(members.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

const storages = await Promise.all(engineNames.map(createStorage));
for (const [i, engine] of engineNames.entries()) {
  const storage = storages[i] ?? null;
  describe(`the audit log in ${engine}`, { skip: storage === null ? 'no PostgreSQL on this machine' : false }, () => {
    if (storage !== null) storageTests(storage);
  });
}

function storageTests(storage: TestStorage): void {
  let database: Database;
  let org: string;
  const change: AuditedChange = { atMs: 1e12, actor: 'a', action: 'b.c', target: 'd', details: { n: 1 } };
  before(async () => {
    database = await openLog(storage);
    org = await newLog(database, Date.now());
    await database.transaction({ role: 'app', org }, (tx) => recordChanges(tx, org, change, change));
  });
  after(async () => {
    await database.close();
    await storage.remove();
  });
  const rowsOf = () =>
    database.transaction({ role: 'app', org }, async (tx) => (await listAudit(tx, org, 1_000, 1_000)).toReversed());

  it('is changed by nobody: not by a role, not by the owner', async () => {
    const texts = [
      `UPDATE audit_log SET actor = 'nobody'`,
      'DELETE FROM audit_log',
      'TRUNCATE audit_log',
      'TRUNCATE orgs CASCADE',
      `INSERT INTO deleted_orgs SELECT org, sequence, at, actor, previous_hash, hash FROM audit_log LIMIT 1; DELETE FROM deleted_orgs`,
      `INSERT INTO deleted_orgs SELECT org, sequence, at, actor, previous_hash, hash FROM audit_log LIMIT 1; UPDATE deleted_orgs SET deleted_by = 'x'`,
    ];
    for (const text of texts) {
      for (const role of ['owner', 'app', 'system', 'ingest', 'erasure'] as const) {
        const done = database.transaction(role === 'app' ? { role, org } : { role }, (tx) => tx.script(text));
        // A role that may delete rows of deleted orgs finds none.
        if (role === 'erasure' && text === 'DELETE FROM audit_log') await done;
        else await assert.rejects(done, refused('42501'), `${role}: ${text}`);
      }
    }
    assert.equal((await rowsOf()).length, 2);
    const disabled = database.transaction({ role: 'owner' }, async (tx) => {
      await tx.script(`ALTER TABLE audit_log DISABLE TRIGGER USER; UPDATE audit_log SET actor = 'nobody'`);
      throw new Error('it is the trigger that refuses');
    });
    await assert.rejects(disabled, /it is the trigger/);
  });

  it('a change and its row are stored together, or not at all', async () => {
    const { org: made, key } = await orgsOf(database).create('own', 'free');
    const own = made.org;
    const failing = intercept(database, (statement, values, real) => {
      if (statement.name === 'key_insert') throw new StorageError('sql', 'made to fail');
      return real(statement, values);
    });
    const silent = intercept(database, (statement, values, real) => {
      if (statement.name === 'audit_insert') throw new StorageError('sql', 'made to fail');
      return real(statement, values);
    });
    const held = { keyId: key.id, scopes: new Set(scopes) };
    const spec = { name: 'k', scopes, expiresAtMs: null };
    for (const faulty of [failing, silent]) {
      await assert.rejects(new Keys(faulty, systemClock, () => {}).create(own, spec, held), /made to fail/);
    }
    const keys = new Keys(database, systemClock, () => {});
    assert.deepEqual(
      (await keys.list(own, '', 10)).map(({ id }) => id),
      [key.id],
    );
    await keys.create(own, spec, held);
    const rows = await database.transaction({ role: 'app', org: own }, (tx) => listAudit(tx, own, 10, 10));
    assert.deepEqual(
      rows.map(({ sequence, action }) => [sequence, action]),
      [
        [3, 'key.created'],
        [2, 'key.created'],
        [1, 'org.created'],
      ],
    );
  });

  it('details come back as they were hashed, whatever is in them; what is too large is left out', async () => {
    const odd = {
      ключ: '"\\\u2028 😀',
      z: [1, -0, null, true, { b: 2, a: [] }],
      a: 2 ** 53 - 1,
      '': {},
      'a"': '\u007f',
    };
    const own = await newLog(database, Date.now());
    await database.transaction({ role: 'app', org: own }, (tx) =>
      recordChanges(tx, own, { ...change, details: odd }, { ...change, details: { text: 'x'.repeat(5_000) } }),
    );
    const rows = await database.transaction({ role: 'app', org: own }, (tx) => listAudit(tx, own, 10, 10));
    const [large, first] = rows;
    assert.ok(first !== undefined && large !== undefined);
    assert.equal(chainBreak(own, chainStart, first), null);
    assert.equal(chainBreak(own, first, large), null);
    assert.equal(canonicalJson(first.details), canonicalJson(odd));
    assert.deepEqual(large.details, { omitted_bytes: 5_011 });
    assert.throws(() => canonicalJson(0.5), RangeError);
  });

  it('a row that was changed in any way breaks the chain', async () => {
    const [first, second] = await rowsOf();
    assert.ok(first !== undefined && second !== undefined);
    assert.equal(chainBreak(org, chainStart, first), null);
    assert.equal(chainBreak(org, first, second), null);
    assert.match(chainBreak(org, chainStart, second) ?? '', /row 1 is missing/);
    assert.match(chainBreak(org, first, first) ?? '', /row 2 is missing/);
    const changes = [
      { atMs: 1 },
      { actor: 'x' },
      { action: 'x' },
      { target: 'x' },
      { details: {} },
      { details: { n: 1.5 } },
      { hash: Buffer.alloc(32) },
    ];
    for (const changed of changes) {
      assert.match(
        chainBreak(org, first, { ...second, ...changed }) ?? '',
        /row 2 was changed/,
        JSON.stringify(changed),
      );
    }
    assert.match(chainBreak(org, first, { ...second, previousHash: Buffer.alloc(32) }) ?? '', /does not follow/);
    assert.match(chainBreak('1', first, second) ?? '', /was changed/);
  });

  it('nothing is recorded for an org that is no more', async () => {
    const nobody = database.transaction({ role: 'app', org: '12345' }, (tx) => recordChanges(tx, '12345', change));
    await assert.rejects(nobody, (error) => error instanceof Problem && error.code === 'invalid_key');
    await asOwner(database, `UPDATE audit_heads SET closed = true WHERE org = ${org}`);
    const closed = database.transaction({ role: 'app', org }, (tx) => recordChanges(tx, org, change));
    await assert.rejects(closed, (error) => error instanceof Problem && error.code === 'invalid_key');
  });
}
