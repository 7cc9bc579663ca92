import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { systemClock } from '../../src/clock.js';
import type { Database } from '../../src/db/database.js';
import { recordChanges } from '../../src/db/sql/audit.js';
import { encodeOrgId } from '../../src/ids.js';
import { AuditBroken, verifyAudit } from '../../src/tenancy/audit-verify.js';
import { Orgs } from '../../src/tenancy/orgs.js';
import { asOwner, openDatabase, openLog } from '../support/log.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import { sluice } from '../transfer/command.js';

after(stopServers);

/** More than one page. */
const rowsOfLongChain = 1_100;

/** What somebody with all rights to the database may have done, and the row that is named for it. */
const tamperings: readonly (readonly [what: string, change: string, told: RegExp])[] = [
  ['a row was changed', `UPDATE audit_log SET actor = 'nobody' WHERE org = $org AND sequence = 2`, /row 2 was changed/],
  [
    'a detail was changed',
    `UPDATE audit_log SET details = '{"n": 8}' WHERE org = $org AND sequence = 1050`,
    /row 1050 was changed/,
  ],
  [
    'a time was changed',
    `UPDATE audit_log SET at = at + interval '1 ms' WHERE org = $org AND sequence = 3`,
    /row 3 was changed/,
  ],
  ['a row is missing', `DELETE FROM audit_log WHERE org = $org AND sequence = 1000`, /row 1000 is missing/],
  ['the first row is missing', `DELETE FROM audit_log WHERE org = $org AND sequence = 1`, /row 1 is missing/],
  [
    'two rows changed places',
    `UPDATE audit_log SET sequence = 0 - sequence WHERE org = $org AND sequence IN (5, 6);
     UPDATE audit_log SET sequence = sequence + 11 WHERE org = $org AND sequence < 0`,
    /row 5 (was changed|does not follow)/,
  ],
  [
    'a row was replaced by a sound row of another org',
    `UPDATE audit_log AS l SET actor = o.actor, action = o.action, target = o.target, details = o.details, at = o.at, hash = o.hash
     FROM audit_log AS o WHERE l.org = $org AND l.sequence = 1 AND o.org = $other AND o.sequence = 1`,
    /row 1 was changed/,
  ],
  [
    'the end was cut off',
    `DELETE FROM audit_log WHERE org = $org AND sequence > 1090`,
    /row 1091 is missing, and all up to/,
  ],
  ['all of it is gone', `DELETE FROM audit_log WHERE org = $org`, /row 1 is missing, and all up to/],
  [
    'the end was forged',
    `UPDATE audit_heads SET hash = sha256('x') WHERE org = $org`,
    /row \d+ is not the one that ended it/,
  ],
  ['a deletion was changed', `UPDATE deleted_orgs SET deleted_by = 'nobody'`, /its deletion, row \d+ was changed/],
];

for (const engine of engineNames) {
  test(`on ${engine}, every way to falsify an audit log is found and named`, async (t) => {
    const storage = await createStorage(engine);
    if (storage === null) return t.skip('no PostgreSQL on this machine');
    const database = await openLog(storage);
    t.after(async () => {
      await database.close();
      await storage.remove();
    });
    const { org, other, gone } = await makeChains(database);
    await asOwner(database, tables.map((table) => `CREATE TABLE kept_${table} AS SELECT * FROM ${table}`).join('; '));
    for (const [what, change, told] of tamperings) {
      await verifyAudit(database, silent);
      await asOwner(database, unguarded(change.replaceAll('$org', org).replaceAll('$other', other)));
      const wrong = encodeOrgId(what === 'a deletion was changed' ? gone : org);
      await assert.rejects(
        verifyAudit(database, silent),
        (error) => error instanceof AuditBroken && told.test(error.message) && error.message.includes(wrong),
        what,
      );
      const emptied = tables.map((table) => `DELETE FROM ${table}`).join('; ');
      const filled = tables.toReversed().map((table) => `INSERT INTO ${table} SELECT * FROM kept_${table}`);
      await asOwner(database, unguarded(`${emptied}; ${filled.join('; ')}`));
    }
  });

  test(`on ${engine}, the command tells where each chain ends, or the first row that is wrong`, async (t) => {
    const storage = await createStorage(engine);
    if (storage === null) return t.skip('no PostgreSQL on this machine');
    t.after(() => storage.remove());
    const database = await openLog(storage);
    const { org, other, gone } = await makeChains(database);
    await database.close();
    const sound = await sluice(storage, ['audit', 'verify']).ended;
    assert.equal(sound.code, 0, sound.stderr);
    assert.match(sound.stderr, /^Verified 1105 rows of 2 orgs and 1 deletion\.$/m);
    const lines = sound.stdout.toString().trimEnd().split('\n');
    assert.equal(lines.length, 3);
    const ends = new Map(lines.map((line) => [line.slice(0, 14), line.slice(15)]));
    assert.match(ends.get(encodeOrgId(org)) ?? '', /^1102 [0-9a-f]{64}$/);
    assert.match(ends.get(encodeOrgId(other)) ?? '', /^2 [0-9a-f]{64}$/);
    assert.match(ends.get(encodeOrgId(gone)) ?? '', /^3 [0-9a-f]{64} deleted$/);

    const again = await openDatabase(storage);
    await asOwner(again, unguarded(`UPDATE audit_log SET target = 'another' WHERE org = ${org} AND sequence = 7`));
    await again.close();
    const broken = await sluice(storage, ['audit', 'verify']).ended;
    assert.equal(broken.code, 1);
    assert.match(broken.stderr, /^the audit log of org_\w{10} is not as it was written: row 7 was changed$/m);
    assert.ok(broken.stderr.includes(encodeOrgId(org)));
  });
}

test('there is nothing to verify where there is no database, and audit alone is no command', async (t) => {
  const storage = await createStorage('embedded');
  assert.ok(storage !== null);
  t.after(() => storage.remove());
  const nowhere = { ...storage, config: { ...storage.config, dataDir: `${storage.config.dataDir}-typo` } };
  const missing = await sluice(nowhere, ['audit', 'verify']).ended;
  assert.equal(missing.code, 1);
  assert.match(missing.stderr, /There is no database in .*-typo; name its folder/);
  for (const args of [['audit'], ['audit', 'check']]) {
    const command = sluice(storage, args);
    const { code, stderr } = await command.ended;
    assert.equal(code, 2);
    assert.match(stderr, /it is `sluice audit verify`/);
  }
});

const tables = ['audit_log', 'audit_heads', 'deleted_orgs'];
const silent = { onChain: () => Promise.resolve(), onRows: () => {} };

/** As somebody may who owns the tables. */
function unguarded(text: string): string {
  const guards = (verb: string): string =>
    ['audit_log', 'deleted_orgs'].map((table) => `ALTER TABLE ${table} ${verb} TRIGGER USER`).join('; ');
  return `${guards('DISABLE')}; ALTER TABLE audit_log DROP CONSTRAINT IF EXISTS audit_log_sequence_check; ${text}; ${guards('ENABLE')}`;
}

/** Three chains: a long one, a short one, and one of which only the deletion is left. */
async function makeChains(database: Database): Promise<{ org: string; other: string; gone: string }> {
  const orgs = new Orgs(
    database,
    systemClock,
    () => {},
    () => {},
  );
  const create = async (): Promise<string> => (await orgs.create('verified', 'free')).org.org;
  const [org, other, gone] = [await create(), await create(), await create()];
  const change = { atMs: Date.now(), actor: 'test', action: 'test.made', target: 'x', details: { n: 7 } };
  await database.transaction({ role: 'app', org }, (tx) =>
    recordChanges(tx, org, change, ...Array.from({ length: rowsOfLongChain - 1 }, () => change)),
  );
  await orgs.delete(gone);
  return { org, other, gone };
}
