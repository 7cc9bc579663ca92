import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { chainBreak, nextRow } from '../../src/audit-chain.js';
import type { Database, Statement } from '../../src/db/database.js';
import { listDeletedOrgs, tablesOfOrgs, unerasedOrgs } from '../../src/db/sql/deletions.js';
import { insertOrg } from '../../src/db/sql/tenancy.js';
import { appendBatch } from '../../src/event-log/append.js';
import { encodeOrgId } from '../../src/ids.js';
import type { Orgs } from '../../src/tenancy/orgs.js';
import { ImportConflict } from '../../src/transfer/import.js';
import { newEvent } from '../support/event-log.js';
import { asOwner, intercept, openLog } from '../support/log.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';
import { exported, imported } from '../transfer/world.js';
import { batch, erase, fullOrg, nothing, orgsOf, rowsOf, total } from './erasing.js';

after(stopServers);

const storages = await Promise.all(engineNames.map(createStorage));
for (const [i, engine] of engineNames.entries()) {
  const storage = storages[i] ?? null;
  describe(`an org is erased from ${engine}`, { skip: storage === null ? 'no PostgreSQL here' : false }, () => {
    if (storage !== null) erasureTests(storage);
  });
}

function erasureTests(storage: TestStorage): void {
  let database: Database;
  let orgs: Orgs;
  before(async () => {
    database = await openLog(storage);
    orgs = orgsOf(database);
  });
  after(async () => {
    await database.close();
    await storage.remove();
  });
  const deleteOrg = async (org: string): Promise<void> => assert.equal(await orgs.delete(org), true);

  it('every table with rows of an org is among those that are erased', async () => {
    const text = `
      SELECT c.relname AS name FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
      WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attname = 'org'`;
    const { rows } = await database.query<{ name: string }>({ role: 'owner' }, { name: 'test_org_tables', text });
    assert.deepEqual(rows.map(({ name }) => name).toSorted(), [...tablesOfOrgs, 'deleted_orgs'].toSorted());
  });

  it('nothing of it is left in any table, and nothing of another is touched', async () => {
    const [org, other] = [await fullOrg(database, orgs), await fullOrg(database, orgs)];
    const [its, others] = [await rowsOf(database, org), await rowsOf(database, other)];
    // Else there is nothing to see.
    for (const [table, rows] of Object.entries(its)) assert.ok(rows > 0, table);
    await deleteOrg(org);
    const erased = await erase(database);
    assert.deepEqual(
      erased.map(({ org: one }) => one),
      [org],
    );
    assert.deepEqual(await rowsOf(database, org), nothing(its));
    assert.deepEqual(await rowsOf(database, other), others);
    assert.deepEqual(await unerasedOrgs(database, '0', 10), []);
  });

  it('what remains is its number, which nobody gets again, and the last row of its audit log', async () => {
    const { org } = (await orgs.create('of a name', 'free')).org;
    await deleteOrg(org);
    const again = (number: string) =>
      database.transaction({ role: 'system' }, (tx) =>
        insertOrg(tx, { org: number, name: 'again', tier: 'free', createdAt: new Date(0) }),
      );
    assert.equal(await again(org), null);
    await erase(database);
    assert.equal(await again(org), null);
    assert.equal(await orgs.find(org), null);
    const tombstone = (await listDeletedOrgs(database, '0', 1_000)).find((one) => one.org === org);
    assert.ok(tombstone !== undefined);
    const change = { ...tombstone, action: 'org.deleted', target: encodeOrgId(org), details: {} };
    const end = { sequence: tombstone.sequence - 1, hash: tombstone.previousHash };
    assert.equal(chainBreak(org, end, change), null);
    assert.deepEqual([tombstone.sequence, tombstone.actor], [3, 'admin']);
    assert.ok(Math.abs(tombstone.atMs - Date.now()) < 60_000);
    // Another who deleted it would show.
    assert.notDeepEqual(nextRow(org, end, { ...change, actor: 'x' }).hash, tombstone.hash);
  });

  it('stopped between any two batches and begun anew, the erasure goes on', async () => {
    const org = await fullOrg(database, orgs);
    await deleteOrg(org);
    let left = total(await rowsOf(database, org));
    const allAtFirst = left;
    let rounds = 0;
    for (; (await unerasedOrgs(database, '0', 1)).length > 0; rounds++) {
      await erase(database, undefined, { ...batch, batchesMax: 3 });
      const now = total(await rowsOf(database, org));
      assert.ok(now < left || (await unerasedOrgs(database, '0', 1)).length === 0, `${now} rows of ${left}`);
      left = now;
    }
    assert.equal(left, 0);
    // One step does not do it.
    assert.ok(rounds > 3 && allAtFirst > 50, `${rounds} rounds for ${allAtFirst} rows`);
  });

  it('several nodes erase it together, and a batch that fails is tried again', async () => {
    const org = await fullOrg(database, orgs);
    const its = await rowsOf(database, org);
    await deleteOrg(org);
    let failures = 3;
    const faulty = intercept(database, (statement, values, real) => {
      if (statement.name.startsWith('erase_') && failures-- > 0) throw new Error('made to fail');
      return real(statement, values);
    });
    const seen: unknown[] = [];
    const onFailure = (error: unknown): void => void seen.push(error);
    for (let tries = 0; tries < 5 && (await unerasedOrgs(database, '0', 1)).length > 0; tries++) {
      await Promise.all([erase(faulty, onFailure), erase(database, onFailure)]);
    }
    assert.ok(seen.length > 0);
    assert.deepEqual(await rowsOf(database, org), nothing(its));
  });

  it('what a request under way adds meanwhile is erased, too', async () => {
    const org = await fullOrg(database, orgs);
    const its = await rowsOf(database, org);
    await deleteOrg(org);
    let added = 0;
    const late = intercept(database, async (statement: Statement, values, real) => {
      // The subscriptions come after the leases.
      if (statement.name === 'erase_subscriptions' && added++ === 0) {
        await real({ name: 'test_late_role', text: 'RESET ROLE' });
        const text = `INSERT INTO leases VALUES ($1, 0, 'late', 1, now(), '{[1,2)}', 1, 1)`;
        await real({ name: 'test_late', text }, [org]);
        await real({ name: 'test_late_back', text: 'SET LOCAL ROLE sluice_erasure' });
      }
      return real(statement, values);
    });
    for (let tries = 0; tries < 5 && (await unerasedOrgs(database, '0', 1)).length > 0; tries++)
      await erase(late, () => {});
    assert.ok(added > 0);
    assert.deepEqual(await rowsOf(database, org), nothing(its));
  });

  it('events on their way when it is deleted are erased or refused, never left behind', async () => {
    const { org } = (await orgs.create('busy', 'free')).org;
    const send = async (n: number): Promise<string> => {
      const outcome = await appendBatch(database, [newEvent(org, String(n), `dedup ${n}`)], Date.now());
      return outcome.events[0]?.kind ?? '';
    };
    const sending = Array.from({ length: 40 }, (_, n) => send(n));
    const deleting = deleteOrg(org);
    const kinds = await Promise.all([...sending, ...Array.from({ length: 20 }, (_, n) => send(100 + n))]);
    await deleting;
    assert.ok(
      kinds.every((kind) => kind === 'stored' || kind === 'org_unknown'),
      kinds.join(),
    );
    assert.equal(await send(1_000), 'org_unknown');
    await erase(database);
    assert.equal(total(await rowsOf(database, org)), 0);
  });

  it('an import does not bring it back: not before, not after it is erased, not in its middle', async () => {
    const source = await createStorage('embedded');
    assert.ok(source !== null);
    const from = await openLog(source);
    const { org } = (await orgsOf(from).create('moved', 'free')).org;
    // More than one chunk.
    const many = Array.from({ length: 1_000 }, (_, n) => newEvent(org, String(n)));
    for (let n = 0; n < 3; n++) await appendBatch(from, many, Date.now());
    const bytes = await exported(from);
    await from.close();
    await source.remove();

    await imported(database, bytes);
    const { rows: log } = await database.query<{ action: string }>(
      { role: 'app', org },
      { name: 'test_actions', text: 'SELECT action FROM audit_log ORDER BY sequence' },
    );
    assert.deepEqual(log, [{ action: 'org.imported' }]);
    await deleteOrg(org);
    await asOwner(database, 'DELETE FROM imports');
    await assert.rejects(imported(database, bytes), deletedBefore);
    await erase(database, undefined, {});
    await assert.rejects(imported(database, bytes), deletedBefore);
    assert.equal(total(await rowsOf(database, org)), 0);
  });

  it('an import that was at an org when it was deleted stores nothing more of it', async () => {
    const source = await createStorage('embedded');
    assert.ok(source !== null);
    const from = await openLog(source);
    const { org } = (await orgsOf(from).create('moving', 'free')).org;
    const many = Array.from({ length: 1_000 }, (_, n) => newEvent(org, String(n)));
    for (let n = 0; n < 4; n++) await appendBatch(from, many, Date.now());
    const bytes = await exported(from);
    await from.close();
    await source.remove();

    let chunks = 0;
    const interrupted = intercept(database, (statement, values, real) => {
      if (statement.name === 'import_advance' && ++chunks === 2) throw new Error('cut here');
      return real(statement, values);
    });
    await assert.rejects(imported(interrupted, bytes), /cut here/);
    assert.ok(total(await rowsOf(database, org)) > 1_000);
    await deleteOrg(org);
    await erase(database, undefined, {});
    await assert.rejects(
      imported(database, bytes),
      (error) => error instanceof ImportConflict && /was deleted while it was imported/.test(error.message),
    );
    assert.equal(total(await rowsOf(database, org)), 0);
  });
}

const deletedBefore = (error: unknown): boolean =>
  error instanceof ImportConflict &&
  /was deleted from this database, which never takes its id again/.test(error.message);
