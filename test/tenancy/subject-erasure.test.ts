import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { systemClock } from '../../src/clock.js';
import type { Database } from '../../src/db/database.js';
import { tablesOfOrgs } from '../../src/db/sql/deletions.js';
import { deleteCertificates, deleteSubjectEvents, runningErasures } from '../../src/db/sql/erasures.js';
import { Problem } from '../../src/errors.js';
import { acknowledge } from '../../src/subscriptions/acknowledge.js';
import { eraseStep } from '../../src/subscriptions/erase.js';
import { expireBefore } from '../../src/subscriptions/expire.js';
import { receive } from '../../src/subscriptions/receive.js';
import { verifyOrg } from '../../src/subscriptions/verify.js';
import type { Erasure } from '../../src/tenancy/erasures.js';
import { Erasures, erasuresRunningMax, hashSubject } from '../../src/tenancy/erasures.js';
import { SubjectErasure } from '../../src/tenancy/subject-erasure.js';
import { signal } from '../support/conformance.js';
import { append, asOrg, asOwner, dayMs, ensurePartitions, intercept, newLog, openLog } from '../support/log.js';
import { createStorage, engineNames, stopServers } from '../support/storage.js';
import type { TestStorage } from '../support/storage.js';

after(stopServers);

const storages = await Promise.all(engineNames.map(createStorage));
for (const [i, engine] of engineNames.entries()) {
  const storage = storages[i] ?? null;
  describe(`a subject is erased from ${engine}`, { skip: storage === null ? 'no PostgreSQL here' : false }, () => {
    if (storage !== null) erasureTests(storage);
  });
}

const days = 4;
const perDay = 20;
const subjects = ['ann', 'bob'];
const small = { scannedMax: 7, eventsMax: 3 };

function erasureTests(storage: TestStorage): void {
  let database: Database;
  let erasures: Erasures;
  const nowMs = Date.now();
  before(async () => {
    database = await openLog(storage);
    erasures = new Erasures(database, systemClock, () => {});
    for (let day = 0; day < days; day++) {
      await ensurePartitions(database, { ...systemClock, now: () => nowMs + day * dayMs });
    }
  });
  after(async () => {
    await database.close();
    await storage.remove();
  });

  const subjectsOf = (org: string): Promise<{ subject: string | null; events: number }[]> =>
    asOrg(database, org, 'SELECT subject, count(*)::integer AS events FROM events GROUP BY subject ORDER BY subject');
  const sumOf = async (org: string): Promise<Record<string, number>> => {
    const [account] = (await verifyOrg(database, org, 'the org', nowMs + 10 * dayMs)) ?? [];
    assert.ok(account);
    const { stored, pending, leased, delivered, dead, skipped, filtered, erased } = account;
    assert.equal(stored, pending + leased + delivered + dead + skipped + filtered);
    return { stored, delivered, erased };
  };

  /** Events of four days about two subjects, by turns, of which some are acknowledged, some dead, some in leases, and some were never handed out. */
  async function fullLog(): Promise<string> {
    const org = await newLog(database, nowMs, 1);
    for (let day = 0; day < days; day++) {
      const atMs = nowMs + day * dayMs;
      const events = Array.from({ length: perDay }, (_, n) => ({
        subject: subjects[n % 2] ?? '',
        dedupId: `${day} ${n}`,
      }));
      const places = (await append(database, org, events, atMs)).flatMap((place) => place ?? []);
      for (const [n, endsAtMs] of [atMs + 1, atMs + 20 * dayMs].entries()) {
        const common = { org, subscription: 0, eventsMax: 6, wantsPayload: false, nowMs: atMs + n * 10 };
        await receive(database, { ...common, lease: `lse_${day}_${n}`, leaseEndsAtMs: endsAtMs });
      }
      const addresses = [1, 2, 8, 9, 18].map((n) => ({ epoch: 1, ...(places[n] ?? { position: 0, day: 0 }) }));
      await acknowledge(database, org, 0, addresses);
    }
    return org;
  }

  /** As one node, to the end of all that is under way; or so many steps. */
  async function work(used = database, stepsMax = Infinity, onFailure: (error: unknown) => void = fail): Promise<void> {
    const over = signal();
    let steps = 0;
    // The next round would be in some seconds, and is the sign that this one is over.
    const arm = (delayMs: number, fire: () => void): (() => void) => {
      if (delayMs < 1_000) return systemClock.after(delayMs, fire);
      over.fire();
      return () => {};
    };
    const erasure: SubjectErasure = new SubjectErasure({
      database: used,
      clock: { ...systemClock, after: arm },
      limits: small,
      onFailure,
      onStep: () => {
        if (++steps === stepsMax) void erasure.stop().then(over.fire);
      },
    });
    erasure.check();
    await over.promise;
    await erasure.stop();
  }
  const done = async (org: string, { id }: Erasure): Promise<Erasure> => {
    const erasure = await erasures.find(org, id);
    assert.equal(erasure?.isDone, true);
    return erasure;
  };

  it('nothing of it is left in any table, nothing of another subject or org is touched, and the certificate counts it', async () => {
    const [org, other] = [await fullLog(), await fullLog()];
    const half = (days * perDay) / 2;
    const both = [
      { subject: 'ann', events: half },
      { subject: 'bob', events: half },
    ];
    assert.deepEqual(await subjectsOf(org), both);
    const sums = [await sumOf(org), await sumOf(other)];
    const counted = `
      SELECT (SELECT count(*) FROM dead_letters AS d JOIN events AS e USING (org, position) WHERE e.subject = 'ann')::integer AS dead,
        (SELECT count(*) FROM leases AS l CROSS JOIN unnest(l.positions) AS r JOIN events AS e ON r @> e.position
          WHERE e.org = l.org AND e.subject = 'ann')::integer AS leased`;
    const [places] = await asOrg<{ dead: number; leased: number }>(database, org, counted);
    assert.ok(places !== undefined && places.dead > 0 && places.leased > 0);
    const asked = await erasures.request(org, 'ann', 'key_test');
    assert.deepEqual([asked.isDone, asked.counts], [false, {}]);
    await work();

    const { counts, subjectHash } = await done(org, asked);
    const [first, last] = [Math.floor(nowMs / dayMs), Math.floor(nowMs / dayMs) + days - 1];
    assert.deepEqual(counts.events, { rows: half, first_day: first, last_day: last });
    assert.deepEqual([counts.leases?.rows, counts.dead_letters?.rows], [places.leased, places.dead]);
    assert.deepEqual(subjectHash, hashSubject(asked.id, 'ann'));
    assert.deepEqual(await subjectsOf(org), [{ subject: 'bob', events: half }]);
    assert.deepEqual(await subjectsOf(other), both);
    assert.deepEqual(await asOrg(database, org, counted), [{ dead: 0, leased: 0 }]);
    assert.deepEqual(await sumOf(other), sums[1]);
    // What was not done counts as erased; what was done is not there any more.
    const { stored, delivered = 0, erased = 0 } = await sumOf(org);
    assert.equal(stored, half);
    assert.equal(erased, half - ((sums[0]?.['delivered'] ?? 0) - delivered));
    assert.ok(erased > places.leased + places.dead, 'some were never handed out');
  });

  it('what is stored after the request stays, unless it is asked for again while it is under way', async () => {
    const org = await newLog(database, nowMs);
    await append(database, org, [{ subject: 'ann' }, { subject: 'bob' }], nowMs);
    const first = await erasures.request(org, 'ann', 'key_test');
    await append(database, org, [{ subject: 'ann' }], nowMs);
    await work();
    assert.equal((await done(org, first)).counts.events?.rows, 1);
    assert.deepEqual(await subjectsOf(org), [
      { subject: 'ann', events: 1 },
      { subject: 'bob', events: 1 },
    ]);
    const second = await erasures.request(org, 'ann', 'key_test');
    assert.notEqual(second.id, first.id);
    await append(database, org, [{ subject: 'ann' }], nowMs + 2 * dayMs);
    const repeated = await erasures.request(org, 'ann', 'key_other');
    assert.equal(repeated.id, second.id);
    await work();
    assert.equal((await done(org, second)).counts.events?.rows, 2);
    assert.deepEqual(await subjectsOf(org), [{ subject: 'bob', events: 1 }]);
  });

  it('stopped between any two steps and begun anew, or done by several nodes, it adds up at every moment', async () => {
    const org = await fullLog();
    const asked = [await erasures.request(org, 'ann', 'key_test'), await erasures.request(org, 'bob', 'key_test')];
    const { stored = 0 } = await sumOf(org);
    let left = stored;
    let rounds = 0;
    for (; (await runningErasures(database, '0', 1)).length > 0; rounds++) {
      if (rounds % 2 === 0) await work(database, 2);
      else await Promise.all([work(database, 2), work(database, 2)]);
      const now = (await sumOf(org))['stored'] ?? 0;
      assert.ok(now <= left);
      left = now;
    }
    assert.ok(rounds > 5 && left === 0, `${rounds} rounds, ${left} left`);
    const rows = await Promise.all(asked.map(async (one) => (await done(org, one)).counts.events?.rows));
    assert.deepEqual(rows, [stored / 2, stored / 2]);
  });

  it('a step that fails anywhere leaves nothing half done, keeps no other org waiting, and is tried again', async () => {
    const [org, other] = [await fullLog(), await fullLog()];
    const asked = [await erasures.request(org, 'ann', 'key_test'), await erasures.request(other, 'ann', 'key_test')];
    let seen = 0;
    for (const broken of ['erasure_scan', 'erasure_count_subscription', 'erasure_delete_events', 'erasure_advance']) {
      const earlier = await sumOf(org);
      const faulty = intercept(database, async (statement, values, real) => {
        const result = await real(statement, values);
        if (statement.name === broken && values[0] === org) throw new Error('made to fail');
        return result;
      });
      await work(faulty, 40, () => void seen++);
      assert.deepEqual(await sumOf(org), earlier, broken);
    }
    assert.ok(seen >= 4, `${seen} failures`);
    assert.equal((await erasures.find(other, asked[1]?.id ?? ''))?.isDone, true);
    await work();
    assert.equal((await erasures.find(org, asked[0]?.id ?? ''))?.isDone, true);
  });

  it('no table holds the subject in clear when it is done, and the audit log never does', async () => {
    const org = await newLog(database, nowMs);
    const subject = 'canary@example.com';
    await append(database, org, [{ subject }], nowMs);
    const asked = await erasures.request(org, subject, 'key_test');
    const holding = async (): Promise<string[]> => {
      const text = [...tablesOfOrgs, 'deleted_orgs', 'imports']
        .map((table) => `SELECT '${table}' AS name FROM ${table} AS t WHERE strpos(t::text, '${subject}') > 0`)
        .join(' UNION ALL ');
      const { rows } = await database.query<{ name: string }>({ role: 'owner' }, { name: 'test_holding', text });
      return rows.map(({ name }) => name).toSorted();
    };
    assert.deepEqual(await holding(), ['erasures', 'events']);
    await work();
    await done(org, asked);
    assert.deepEqual(await holding(), []);
    const log = `SELECT actor, action, target, details->>'subject_hash' AS hash FROM audit_log ORDER BY sequence DESC LIMIT 1`;
    const hash = hashSubject(asked.id, subject).toString('hex');
    assert.deepEqual(await asOrg(database, org, log), [
      { actor: 'key_test', action: 'subject.erasure_requested', target: asked.id, hash },
    ]);
  });

  it('the role that deletes can delete events of a subject under way, up to where its erasure goes, and no other', async () => {
    const org = await newLog(database, nowMs);
    const day = Math.floor(nowMs / dayMs);
    await append(database, org, [{ subject: 'ann' }, { subject: 'bob' }, {}], nowMs);
    const { id } = await erasures.request(org, 'ann', 'key_test');
    await append(database, org, [{ subject: 'ann' }], nowMs);
    const all = [1, 2, 3, 4].map((position) => ({ position, day, type: 'test' }));
    const deletable = (): Promise<number> =>
      database
        .transaction({ role: 'app', org }, async (tx) => {
          throw new Deleted((await deleteSubjectEvents(tx, org, all)).get(day) ?? 0);
        })
        .catch((error: unknown) => {
          if (error instanceof Deleted) return error.rows;
          throw error;
        });
    assert.equal(await deletable(), 1);
    await asOwner(database, `UPDATE erasures SET last_position = 4 WHERE erasure = '${id}'`);
    assert.equal(await deletable(), 2);
    while (!(await eraseStep(database, org, id, day, new Date()))?.isDone);
    await append(database, org, [{ subject: 'ann' }], nowMs);
    assert.equal(await deletable(), 0);
  });

  it('what retention has passed over and not deleted yet is erased, too, and counts as expired only', async () => {
    const org = await fullLog();
    const earlier = await sumOf(org);
    while (!(await expireBefore(database, org, Math.floor(nowMs / dayMs) + days)));
    const asked = await erasures.request(org, 'ann', 'key_test');
    await work();
    assert.equal((await done(org, asked)).counts.events?.rows, (earlier['stored'] ?? 0) / 2);
    assert.equal((await sumOf(org))['erased'], 0);
  });

  it('its dedup id goes on refusing doubles', async () => {
    const org = await newLog(database, nowMs);
    const event = { subject: 'ann', dedupId: 'once' };
    await append(database, org, [event], nowMs);
    await erasures.request(org, 'ann', 'key_test');
    await work();
    assert.deepEqual(await append(database, org, [event], nowMs), [null]);
    assert.deepEqual(await subjectsOf(org), []);
  });

  it('an org has a bounded number under way, also when many ask at once', async () => {
    const org = await newLog(database, nowMs);
    const ask = (n: number): Promise<string> =>
      erasures.request(org, `subject ${n}`, 'key_test').then(
        ({ id }) => id,
        (error: unknown) => (error instanceof Problem ? error.code : String(error)),
      );
    for (let n = 0; n < erasuresRunningMax - 2; n++) await ask(n);
    const last = await Promise.all([1, 2, 3, 4, 5].map((n) => ask(1_000 + n)));
    assert.equal(last.filter((code) => code === 'limit_reached').length, 3, last.join());
    // One that is under way already needs no room.
    assert.match(await ask(0), /^ers_/);
    const same = await Promise.all([1, 2, 3].map(() => ask(1)));
    assert.equal(new Set(same).size, 1);
    await work();
    assert.match(await ask(2_000), /^ers_/);
    await work();
  });

  it('a certificate is kept for a year, whatever is asked of the role that deletes it', async () => {
    const org = await newLog(database, nowMs);
    const old = await erasures.request(org, 'old', 'key_test');
    const young = await erasures.request(org, 'young', 'key_test');
    await work();
    const under = await erasures.request(org, 'under way', 'key_test');
    await asOwner(database, `UPDATE erasures SET ended_at = now() - interval '366 days' WHERE erasure = '${old.id}'`);
    await asOwner(database, `UPDATE erasures SET ended_at = now() - interval '364 days' WHERE erasure = '${young.id}'`);
    await deleteCertificates(database, new Date(nowMs + 10 * dayMs), 10_000);
    const left = await Promise.all([old, young, under].map(async ({ id }) => (await erasures.find(org, id)) !== null));
    assert.deepEqual(left, [false, true, true]);
    await work();
  });

  it('events that are erased while they are counted do not make the books wrong', async () => {
    const org = await fullLog();
    const { id } = await erasures.request(org, 'ann', 'key_test');
    let walks = 0;
    const day = Math.floor(nowMs / dayMs);
    const meanwhile: Database = {
      ...database,
      transaction: (scope, run) => database.transaction(scope, run),
      query: async (scope, statement, values) => {
        if (statement.name === 'verify_walk' && walks++ === 0) {
          while (!(await eraseStep(database, org, id, day, new Date()))?.isDone);
        }
        return database.query(scope, statement, values);
      },
    };
    const [account] = (await verifyOrg(meanwhile, org, 'o', nowMs)) ?? [];
    assert.equal(account?.stored, (days * perDay) / 2);
    assert.ok(walks > days, 'it was counted anew');
  });
}

class Deleted extends Error {
  constructor(readonly rows: number) {
    super('undone');
  }
}

function fail(error: unknown): never {
  throw error;
}
