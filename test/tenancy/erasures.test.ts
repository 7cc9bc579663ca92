import assert from 'node:assert/strict';
import { it } from 'node:test';
import { findErasure, runningErasures } from '../../src/db/sql/erasures.js';
import { decodeOrgId } from '../../src/ids.js';
import { hashSubject } from '../../src/tenancy/erasures.js';
import type { Answer, TestOrg } from '../support/client.js';
import { Client, createOrg } from '../support/client.js';
import { onEachEngine } from '../support/each-engine.js';
import { append, asOwner, openDatabase } from '../support/log.js';
import { adminToken, spawnNode } from '../support/node.js';
import { assertProblem } from '../support/problem.js';
import { createStorage, engineNames } from '../support/storage.js';

const erase = ({ client }: TestOrg, subject: string): Promise<Answer> =>
  client.call('DELETE', `/v1/subjects/${encodeURIComponent(subject)}`);

/** Resolves with the certificate. */
async function certificate({ client }: TestOrg, id: string): Promise<Answer> {
  for (;;) {
    const answer = await client.get(`/v1/erasures/${id}`);
    assert.equal(answer.status, 200, answer.text);
    if (answer.json.status === 'done') return answer;
  }
}

async function send({ client }: TestOrg, subject: string, n: number): Promise<string> {
  const answer = await client.post('/v1/events', { type: 'a.b', payload: { n, subject }, subject, dedup_id: `${n}` });
  assert.equal(answer.status, 201, answer.text);
  return answer.json.id;
}

await onEachEngine({}, ({ node }) => {
  it('erased events are in no list, stream or inbox, their ids name nothing, and readers pass over the gaps', async () => {
    const org = await createOrg(node().address);
    const { client } = org;
    // What a path could be taken apart by.
    const subject = 'user/12345?a=b#%2F é\u{1f600}';
    const ids: string[] = [];
    for (let n = 0; n < 12; n++) ids.push(await send(org, n % 3 === 1 ? subject : `other ${n}`, n));
    const [gone, kept] = [ids.filter((_, n) => n % 3 === 1), ids.filter((_, n) => n % 3 !== 1)];
    const page = await client.get('/v1/events?limit=2');
    const { lease_id: lease } = (await client.post('/v1/inbox/receive', { max: 6 })).json;
    assert.equal((await client.post('/v1/inbox/ack', { ids: ids.slice(0, 2) })).json.acknowledged, 2);

    const asked = await erase(org, subject);
    assert.equal(asked.status, 202, asked.text);
    assert.equal(asked.headers.get('location'), `/v1/erasures/${asked.json.id}`);
    assert.equal(asked.json.subject_hash, hashSubject(asked.json.id, subject).toString('hex'));
    const { json } = await certificate(org, asked.json.id);
    const today = json.covers_until.slice(0, 10);
    const rows = (count: number) => ({
      rows: count,
      first_day: count === 0 ? null : today,
      last_day: count === 0 ? null : today,
    });
    assert.deepEqual(json.erased, { events: rows(4), leases: rows(1), dead_letters: rows(0) });
    assert.ok(json.requested_at <= json.began_at && json.began_at <= json.ended_at);
    assert.equal((Date.parse(json.expires_at) - Date.parse(json.ended_at)) / 86_400_000, 365);
    assert.equal(json.kept.dedup_ids_until, new Date(Date.parse(today) + 2 * 86_400_000).toISOString());

    const listed = async (query: string): Promise<string[]> =>
      (await client.get(`/v1/events${query}`)).json.data.map(({ id }: { id: string }) => id);
    assert.deepEqual(await listed('?order=asc&limit=1000'), kept);
    assert.deepEqual(
      await listed(`?cursor=${encodeURIComponent(page.json.next_cursor)}&limit=2`),
      kept.toReversed().slice(1, 3),
    );
    for (const id of gone) {
      assertProblem(await client.get(`/v1/events/${id}`), 'not_found');
      assertProblem(await client.get(`/v1/events/${id}/deliveries`), 'not_found');
      assertProblem(await client.call('DELETE', `/v1/inbox/${id}`), 'not_found');
    }
    assert.deepEqual((await client.post('/v1/inbox/ack', { ids: gone })).json.unknown, gone);
    assertProblem(await client.post('/v1/inbox/seek', { to: gone[1] }), 'not_found');
    assert.deepEqual(await firstOfStream(org, gone[2] ?? ''), ids[8]);
    // The first two are done, of the four others of the lease one is gone.
    assert.equal((await client.post('/v1/inbox/ack', { lease_id: lease })).json.acknowledged, 3);
    const received = (await client.post('/v1/inbox/receive', { max: 100 })).json.data.map(
      ({ id }: { id: string }) => id,
    );
    assert.deepEqual(received, kept.slice(4));
    const stats = (await client.get('/v1/inbox/stats')).json;
    assert.deepEqual([stats.pending, stats.leased, stats.dead], [0, 4, 0]);
    const inbox = (await client.get('/v1/inboxes/default')).json;
    assert.deepEqual([inbox.expired, inbox.erased], [0, 3]);
    // The dedup id still names the event that is gone.
    const event = { type: 'a.b', payload: { n: 1, subject }, subject, dedup_id: '1' };
    const again = await client.post('/v1/events', event);
    assert.deepEqual([again.status, again.json.duplicate, again.json.id], [200, true, ids[1]]);
  });

  it('the audit log tells who asked, in whose name nobody else can, and what is no subject or no erasure is refused', async () => {
    const { address } = node();
    const [org, other] = [await createOrg(address), await createOrg(address)];
    await send(other, 'ann', 1);
    const asked = await erase(org, 'ann');
    await certificate(org, asked.json.id);
    const [row] = (await org.client.get('/v1/audit?limit=1')).json.data;
    assert.deepEqual([row.action, row.actor, row.target], ['subject.erasure_requested', org.keyId, asked.json.id]);
    assert.deepEqual(row.details, { subject_hash: asked.json.subject_hash });
    assert.equal((await other.client.get('/v1/events')).json.data.length, 1);
    assertProblem(await other.client.get(`/v1/erasures/${asked.json.id}`), 'not_found');
    for (const id of ['x', 'ers_00000000000000000000000000', asked.json.id.toLowerCase()])
      assertProblem(await org.client.get(`/v1/erasures/${id}`), 'not_found');

    for (const subject of ['x'.repeat(256), 'a\0b', '\u{1f600}'.repeat(256)])
      assertProblem(await erase(org, subject), 'validation_failed');
    for (const subject of ['x'.repeat(255), '\u{1f600}'.repeat(255)])
      assert.equal((await erase(org, subject)).status, 202);
    assertProblem(await org.client.call('DELETE', '/v1/subjects/'), 'not_found');
    const reader = (await org.client.post('/v1/keys', { name: 'reader', scopes: ['events:read'] })).json.key;
    assertProblem(await new Client(address, reader).call('DELETE', '/v1/subjects/ann'), 'insufficient_scope');
    assertProblem(await new Client(address, reader).get(`/v1/erasures/${asked.json.id}`), 'insufficient_scope');
    assertProblem(await new Client(address, null).call('DELETE', '/v1/subjects/ann'), 'missing_key');
  });

  it('what is erased is counted', async () => {
    const org = await createOrg(node().address);
    for (let n = 0; n < 3; n++) await send(org, 'ann', n);
    const admin = new Client(node().address, adminToken);
    const counted = async (name: string): Promise<number> =>
      Number(new RegExp(`^${name} (\\d+)$`, 'm').exec((await admin.get('/metrics')).text)?.[1]);
    const [events, jobs] = [await counted('sluice_events_erased_total'), await counted('sluice_subjects_erased_total')];
    await certificate(org, (await erase(org, 'ann')).json.id);
    while ((await counted('sluice_subjects_erased_total')) !== jobs + 1);
    assert.equal(await counted('sluice_events_erased_total'), events + 3);
  });
});

/** The id of the first event behind another. */
async function firstOfStream({ client, key }: TestOrg, after: string): Promise<string | undefined> {
  const abort = new AbortController();
  const headers = { Authorization: `Bearer ${key}`, 'Last-Event-ID': after };
  const response = await fetch(`${client.address}/v1/events/stream`, { headers, signal: abort.signal });
  const reader = response.body?.getReader();
  let text = '';
  while (!/^id: .*\n/m.test(text)) text += Buffer.from((await reader?.read())?.value ?? []).toString();
  abort.abort();
  return /^id: (.*)$/m.exec(text)?.[1];
}

for (const engine of engineNames) {
  it(`on ${engine}, a node that is killed in the middle of an erasure goes on with it when it is started again`, async (t) => {
    const storage = await createStorage(engine);
    if (storage === null) return t.skip('no PostgreSQL on this machine');
    t.after(() => storage.remove());
    const first = await spawnNode(storage);
    t.after(() => first.end('SIGKILL'));
    const org = await createOrg(first.address);
    const number = decodeOrgId(org.id) ?? '';
    await first.end('SIGKILL');
    const filling = await openDatabase(storage);
    t.after(() => filling.close());
    // Each of ten steps deletes as much as one may.
    const thousand = Array.from({ length: 1_000 }, (_, n) => ({ subject: n % 2 === 0 ? 'ann' : 'bob' }));
    for (let n = 0; n < 10; n++) await append(filling, number, thousand, Date.now());
    await asOwner(filling, `UPDATE orgs SET tier = 'enterprise'`);
    await filling.close();

    const second = await spawnNode(storage);
    t.after(() => second.end('SIGKILL'));
    const asked = await erase({ ...org, client: new Client(second.address, org.key) }, 'ann');
    assert.equal(asked.status, 202, asked.text);
    await second.end('SIGKILL');
    const between = await openDatabase(storage);
    t.after(() => between.close());
    assert.equal((await runningErasures(between, '0', 2)).length, 1);
    const find = () =>
      between.transaction({ role: 'app', org: number }, (tx) => findErasure(tx, number, asked.json.id));
    assert.ok(((await find())?.counts.events?.rows ?? 0) < 5_000);
    await between.close();

    const third = await spawnNode(storage);
    t.after(() => third.end('SIGKILL'));
    const now = { ...org, client: new Client(third.address, org.key) };
    const { json } = await certificate(now, asked.json.id);
    assert.equal(json.erased.events.rows, 5_000);
    assert.equal((await now.client.get('/v1/inbox/stats')).json.pending, 5_000);
    assert.equal((await now.client.get('/v1/inboxes/default')).json.erased, 5_000);
    assert.equal(await third.end('SIGTERM'), 0);
  });
}
