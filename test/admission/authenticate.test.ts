import assert from 'node:assert/strict';
import type { IncomingHttpHeaders } from 'node:http';
import { describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { Authenticator, Caller } from '../../src/admission/authenticate.js';
import { StorageError } from '../../src/db/database.js';
import { Problem } from '../../src/errors.js';
import { createKeySecret, hashKey } from '../../src/tenancy/key-secret.js';
import type { Holder, Setup } from '../support/key-lookups.js';
import { adminToken, ask, bearer, holder, refusal, setUp } from '../support/key-lookups.js';
import { importMutant } from '../support/mutant.js';

const believedMs = 500;
const lookupsMax = 4_096;
const keysPerStatementMax = 256;
const statementsMax = 16;
const rememberedKeysMax = 50_000;

describe('the authenticator', () => {
  it('looks a key up once, however many requests wait for it', async () => {
    const setup = setUp();
    const key = createKeySecret();
    const asking = Array.from({ length: 50 }, () => ask(setup, key));
    (await setup.lookups.next()).answer({ org: '42' });
    for (const caller of await Promise.all(asking)) assert.ok(caller.kind === 'key' && caller.org === '42');
    assert.equal(setup.lookups.asked, 1);
  });

  it('gives everyone who waits the failure of a look-up, and remembers none', async () => {
    const setup = setUp();
    const key = createKeySecret();
    const asking = Array.from({ length: 10 }, () => assert.rejects(ask(setup, key), StorageError));
    (await setup.lookups.next()).fail(new StorageError('unavailable', 'no session'));
    await Promise.all(asking);
    const again = ask(setup, key);
    (await setup.lookups.next()).answer({});
    assert.equal((await again).kind, 'key');
  });

  it('believes an answer for 500 ms from before its look-up began, not from its end', async () => {
    const setup = setUp();
    const key = createKeySecret();
    const first = ask(setup, key);
    await turn();
    setup.clock.advance(believedMs - 100);
    (await setup.lookups.next()).answer({});
    await first;
    setup.clock.advance(99);
    await ask(setup, key);
    assert.equal(setup.lookups.asked, 1);
    setup.clock.advance(1);
    const again = ask(setup, key);
    (await setup.lookups.next()).answer(null);
    await assert.rejects(again, refusal('invalid_key'));
  });

  it('remembers that a key is unknown, for no longer than a known one', async () => {
    const setup = setUp();
    const key = createKeySecret();
    setup.lookups.always = { row: null };
    await assert.rejects(ask(setup, key), refusal('invalid_key'));
    await assert.rejects(ask(setup, key), refusal('invalid_key'));
    assert.equal(setup.lookups.asked, 1);
    setup.lookups.always = { row: holder };
    setup.clock.advance(believedMs);
    assert.equal((await ask(setup, key)).kind, 'key');
  });

  /** Whether a key is still good after this node deleted it while a look-up that had read it was under way. */
  async function survivesForget(setup: Setup): Promise<boolean> {
    const key = createKeySecret();
    const first = ask(setup, key);
    await turn();
    setup.authenticator.forget(holder.org);
    (await setup.lookups.next()).answer({});
    await first;
    setup.lookups.always = { row: null };
    return ask(setup, key).then(
      () => true,
      () => false,
    );
  }

  it('does not remember an answer that was read before this node changed a key', async () => {
    assert.equal(await survivesForget(setUp()), false);
    const { Authenticator: Careless } = await importMutant<{ Authenticator: typeof Authenticator }>(
      'admission/authenticate.js',
      'generation !== this.#generation',
      'false',
    );
    assert.equal(await survivesForget(setUp(Careless)), true);
  });

  it('lets no request after a change wait for a look-up from before it', async () => {
    const setup = setUp();
    const key = createKeySecret();
    const before = ask(setup, key);
    await turn();
    setup.authenticator.forget(holder.org);
    const after = ask(setup, key);
    const [old, fresh] = [await setup.lookups.next(), await setup.lookups.next()];
    fresh.answer(null);
    await assert.rejects(after, refusal('invalid_key'));
    old.answer({});
    await before;
    await assert.rejects(ask(setup, key), refusal('invalid_key'));
    assert.equal(setup.lookups.asked, 2);
  });

  /** Whether a request is answered by a look-up that has been hanging for so long that another node may have revoked the key since. */
  async function waitsForAHangingLookup(setup: Setup): Promise<boolean> {
    const key = createKeySecret();
    const early = ask(setup, key);
    await turn();
    setup.clock.advance(believedMs);
    const late = ask(setup, key);
    const old = await setup.lookups.next();
    for (const fresh of setup.lookups.waiting) fresh.answer(null);
    old.answer({});
    await early;
    return late.then(
      () => true,
      () => false,
    );
  }

  it('waits for no look-up that began longer ago than an answer is believed', async () => {
    assert.equal(await waitsForAHangingLookup(setUp()), false);
    const { Authenticator: Patient } = await importMutant<{ Authenticator: typeof Authenticator }>(
      'admission/authenticate.js',
      'askedAtMs - underWay.askedAtMs < believedMsMax',
      'true',
    );
    assert.equal(await waitsForAHangingLookup(setUp(Patient)), true);
  });

  it('lets no late answer take the place of a newer one', async () => {
    const setup = setUp();
    const key = createKeySecret();
    const early = ask(setup, key);
    await turn();
    setup.clock.advance(believedMs);
    const late = ask(setup, key);
    const [old, fresh] = [await setup.lookups.next(), await setup.lookups.next()];
    fresh.answer(null);
    await assert.rejects(late);
    old.answer({});
    await early;
    await assert.rejects(ask(setup, key), refusal('invalid_key'));
  });

  it('refuses a flood of unknown keys beyond 4,096 look-ups at once, also when keys change meanwhile', async () => {
    const setup = setUp();
    const asking = Array.from({ length: lookupsMax }, () => assert.rejects(ask(setup, createKeySecret())));
    for (const change of [() => {}, () => setup.authenticator.forget(holder.org)]) {
      change();
      await assert.rejects(ask(setup, createKeySecret()), (error) => {
        assert.ok(error instanceof Problem && error.code === 'overloaded' && error.retryAfterSeconds === 1);
        return true;
      });
    }
    await turn();
    assert.equal(setup.lookups.asked, lookupsMax);
    assert.equal(setup.lookups.statements, lookupsMax / keysPerStatementMax);
    for (const lookup of setup.lookups.waiting) lookup.answer(null);
    await Promise.all(asking);
    setup.lookups.always = { row: holder };
    assert.equal((await ask(setup, createKeySecret())).kind, 'key');
  });

  it('remembers 50,000 keys and then forgets the one that was looked up first', async () => {
    const setup = setUp();
    setup.lookups.always = { row: holder };
    const keys = Array.from({ length: rememberedKeysMax + 1 }, createKeySecret);
    for (let i = 0; i < keys.length; i += lookupsMax)
      await Promise.all(keys.slice(i, i + lookupsMax).map((key) => ask(setup, key)));
    assert.equal(setup.lookups.asked, keys.length);
    for (const key of keys.slice(1)) assert.ok(!(setup.authenticator.authenticate(bearer(key)) instanceof Promise));
    await ask(setup, keys[0] ?? '');
    assert.equal(setup.lookups.asked, keys.length + 1);
  });

  it('looks up in one statement what is asked for in one turn, and gives each key its own answer', async () => {
    const setup = setUp();
    const [good, unknown, strange] = [createKeySecret(), createKeySecret(), createKeySecret()];
    const asking = Promise.allSettled([good, unknown, strange].map((key) => ask(setup, key)));
    const answers = new Map<string, Partial<Holder>>([
      [hashKey(good).toString('hex'), { org: '42' }],
      // What no row should hold, and what would fail all three if it were read with them.
      [hashKey(strange).toString('hex'), { scopes: null as unknown as string[] }],
    ]);
    (await setup.lookups.next()).answer((hash) => answers.get(hash.toString('hex')) ?? null);
    const [first, second, third] = await asking;
    assert.ok(first?.status === 'fulfilled' && first.value.kind === 'key' && first.value.org === '42');
    assert.ok(second?.status === 'rejected' && refusal('invalid_key')(second.reason));
    assert.ok(third?.status === 'rejected' && third.reason instanceof TypeError);
    assert.equal(setup.lookups.statements, 1);
  });

  it('has 16 statements under way at most, and sends what waited as they are answered', async () => {
    const setup = setUp();
    for (let i = 0; i < statementsMax; i++) {
      void ask(setup, createKeySecret());
      await turn();
    }
    const waiting = Promise.all([1, 2, 3].map(() => ask(setup, createKeySecret())));
    await turn();
    assert.equal(setup.lookups.statements, statementsMax);
    (await setup.lookups.next()).answer({});
    for (let i = 1; i < statementsMax; i++) (await setup.lookups.next()).answer({});
    (await setup.lookups.next()).answer({});
    assert.equal((await waiting).length, 3);
    assert.equal(setup.lookups.statements, statementsMax + 1);
  });

  it('forgets the keys of the org that this node changed, and no others', async () => {
    const setup = setUp();
    const [own, others] = [createKeySecret(), createKeySecret()];
    for (const [key, org] of [
      [own, '1'],
      [others, '2'],
    ] as const) {
      setup.lookups.always = { row: { ...holder, org } };
      await ask(setup, key);
    }
    setup.authenticator.forget('1');
    await ask(setup, others);
    assert.equal(setup.lookups.asked, 2);
    await ask(setup, own);
    assert.equal(setup.lookups.asked, 3);
  });

  it('refuses a key from the millisecond of its end on, though it is remembered', async () => {
    const setup = setUp();
    const key = createKeySecret();
    setup.lookups.always = { row: { ...holder, ends_at: new Date(setup.clock.now() + 200) } };
    await ask(setup, key);
    setup.clock.advance(199);
    await ask(setup, key);
    setup.clock.advance(1);
    await assert.rejects(ask(setup, key), refusal('invalid_key'));
  });

  it('refuses the keys of a suspended org as such', async () => {
    const setup = setUp();
    setup.lookups.always = { row: { ...holder, suspended: true } };
    await assert.rejects(ask(setup, createKeySecret()), refusal('org_suspended'));
  });

  it('takes one credential from either header, and two only if they agree', async () => {
    const setup = setUp();
    setup.lookups.always = { row: holder };
    const [key, other] = [createKeySecret(), createKeySecret()];
    const call = async (headers: IncomingHttpHeaders): Promise<Caller> => setup.authenticator.authenticate(headers);
    for (const headers of [
      bearer(key),
      { authorization: `bearer  ${key} ` },
      { 'x-api-key': key },
      { ...bearer(key), 'x-api-key': key },
    ])
      assert.equal((await call(headers)).kind, 'key');
    await assert.rejects(call({ ...bearer(key), 'x-api-key': other }), refusal('invalid_key'));
    await assert.rejects(call({ ...bearer(adminToken), 'x-api-key': key }), refusal('invalid_key'));
    await assert.rejects(call({ authorization: `Basic ${key}`, 'x-api-key': key }), refusal('invalid_key'));
    await assert.rejects(call({}), refusal('missing_key'));
    await assert.rejects(call({ authorization: '', 'x-api-key': '' }), refusal('missing_key'));
  });

  it('asks the storage nothing about what cannot be a key', async () => {
    const setup = setUp();
    const key = createKeySecret();
    for (const text of ['x', key.slice(0, -1), `${key}A`, key.toUpperCase(), `${key.slice(0, -1)}+`, `${adminToken}x`])
      await assert.rejects(ask(setup, text), refusal('invalid_key'));
    assert.deepEqual(await ask(setup, adminToken), { kind: 'admin' });
    assert.equal(setup.lookups.asked, 0);
  });
});
