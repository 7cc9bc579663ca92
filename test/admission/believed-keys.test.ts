/** How long a looked-up key is believed: each clause of the rule, with a case in which it decides. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { AccessVersion } from '../../src/admission/access-version.js';
import { StorageError } from '../../src/db/database.js';
import { createKeySecret } from '../../src/tenancy/key-secret.js';
import type { Setup } from '../support/key-lookups.js';
import { ask, holder, Lookups, refusal, setUp } from '../support/key-lookups.js';

const believedMs = 500;
const pollMs = 200;
const pollsMax = 3;
const believedUnchangedMs = 300_000;

/** With a key that was looked up at 0. Look-ups and polls are answered at once. */
async function setUpKnown(): Promise<Setup & { readonly key: string }> {
  const setup = { ...setUp(), key: createKeySecret() };
  setup.lookups.always = { row: holder };
  setup.lookups.answersPolls = true;
  await ask(setup, setup.key);
  return setup;
}

/** A request every 100 ms, for so long. */
async function askFor(setup: Setup & { readonly key: string }, ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 100) {
    setup.clock.advance(100);
    await ask(setup, setup.key);
    await turn();
  }
}

describe('a known key', () => {
  it('is looked up once while polls say that nothing has changed, and is the same object each time', async () => {
    const setup = await setUpKnown();
    const first = await ask(setup, setup.key);
    await askFor(setup, 60_000);
    assert.equal(setup.lookups.asked, 1);
    assert.equal(await ask(setup, setup.key), first);
    assert.ok(setup.lookups.polled <= 60_000 / pollMs, `${setup.lookups.polled} polls in a minute`);
  });

  it('is looked up again when the version is another one', async () => {
    const setup = await setUpKnown();
    await askFor(setup, 1_000);
    setup.lookups.version = '2';
    setup.lookups.always = { row: null };
    // The next poll sees it.
    for (let i = 0; i < 2; i++) {
      setup.clock.advance(pollMs);
      await ask(setup, setup.key).catch(() => {});
      await turn();
    }
    await assert.rejects(ask(setup, setup.key), refusal('invalid_key'));
  });

  it('is believed for 500 ms from its look-up on, also where the version is another one', async () => {
    const setup = await setUpKnown();
    setup.clock.advance(pollMs);
    setup.lookups.version = '2';
    await ask(setup, setup.key);
    await turn();
    setup.clock.advance(believedMs - pollMs - 1);
    await ask(setup, setup.key);
    assert.equal(setup.lookups.asked, 1);
    setup.clock.advance(1);
    await ask(setup, setup.key);
    assert.equal(setup.lookups.asked, 2);
  });

  it('is looked up again where the last look at the version began 500 ms ago', async () => {
    const setup = await setUpKnown();
    await askFor(setup, 1_000);
    // The last poll began when the last request but one came, or with it.
    setup.clock.advance(believedMs);
    await ask(setup, setup.key);
    assert.equal(setup.lookups.asked, 2);
  });

  it('is looked up again where polls fail', async () => {
    const setup = await setUpKnown();
    setup.lookups.answersPolls = false;
    for (let passed = pollMs; passed < believedMs; passed += pollMs) {
      setup.clock.advance(pollMs);
      await ask(setup, setup.key);
      setup.lookups.nextPoll().fail(new StorageError('unavailable', 'no session'));
      await turn();
    }
    assert.equal(setup.lookups.asked, 1);
    setup.clock.advance(100);
    await ask(setup, setup.key);
    assert.equal(setup.lookups.asked, 2);
  });

  it('is looked up again after five minutes, whatever the polls say', async () => {
    const setup = await setUpKnown();
    await askFor(setup, believedUnchangedMs - 100);
    assert.equal(setup.lookups.asked, 1);
    await askFor(setup, 100);
    assert.equal(setup.lookups.asked, 2);
  });

  it('goes by the version that it was read with: what was polled before and after its look-up does not matter', async () => {
    const setup = setUp();
    setup.lookups.answersPolls = true;
    const [key, other] = [createKeySecret(), createKeySecret()];
    const first = ask(setup, key);
    await turn();
    // It was read with version 1, and is changed before the answer comes; another key is read after the change.
    setup.lookups.version = '2';
    const second = ask(setup, other);
    await turn();
    (await setup.lookups.next()).answer({});
    (await setup.lookups.next()).answer({});
    await Promise.all([first, second]);
    setup.clock.advance(pollMs);
    await ask(setup, other);
    await turn();
    setup.clock.advance(believedMs - pollMs);
    await ask(setup, other);
    assert.equal(setup.lookups.asked, 2);
    setup.lookups.always = { row: null };
    await assert.rejects(ask(setup, key), refusal('invalid_key'));
  });

  it('that has become nobody’s is not kept', async () => {
    const setup = await setUpKnown();
    Object.assign(setup.lookups, { version: '2', always: { row: null } });
    setup.clock.advance(believedMs);
    await assert.rejects(ask(setup, setup.key), refusal('invalid_key'));
    // No version comes back but here: what was kept would be believed.
    Object.assign(setup.lookups, { version: '1', always: { row: holder } });
    await ask(setup, createKeySecret());
    await assert.rejects(ask(setup, setup.key), refusal('invalid_key'));
  });

  it('that is nobody’s is looked up again after 500 ms, though nothing has changed', async () => {
    const setup = await setUpKnown();
    const unknown = createKeySecret();
    setup.lookups.always = { row: null };
    await assert.rejects(ask(setup, unknown));
    setup.lookups.always = { row: holder };
    await askFor(setup, believedMs);
    assert.equal((await ask(setup, unknown)).kind, 'key');
  });
});

describe('the access version', () => {
  it('is good for 500 ms from before it was asked for, not from its answer', async () => {
    const lookups = new Lookups();
    const version = new AccessVersion(lookups);
    version.keepFresh(1_000);
    lookups.nextPoll().answer('7');
    await turn();
    assert.equal(version.wasCurrent('7', 1_499), true);
    assert.equal(version.wasCurrent('7', 1_500), false);
    assert.equal(version.wasCurrent('6', 1_499), false);
  });

  it('is the one that was asked for last, in whatever order the answers come', async () => {
    const lookups = new Lookups();
    const version = new AccessVersion(lookups);
    version.keepFresh(1_000);
    version.keepFresh(1_000 + pollMs);
    const [early, late] = [lookups.nextPoll(), lookups.nextPoll()];
    late.answer('8');
    await turn();
    early.answer('7');
    await turn();
    assert.equal(version.wasCurrent('8', 1_300), true);
    assert.equal(version.wasCurrent('7', 1_300), false);
  });

  it('is asked for every 200 ms at most, by three polls at once at most, and by none where a look-up has just told it', async () => {
    const lookups = new Lookups();
    const version = new AccessVersion(lookups);
    version.saw('1', 0);
    version.keepFresh(pollMs - 1);
    assert.equal(lookups.polled, 0);
    version.keepFresh(pollMs);
    version.keepFresh(2 * pollMs - 1);
    assert.equal(lookups.polled, 1);
    for (let nowMs = 2 * pollMs; nowMs < 2_000; nowMs += 50) version.keepFresh(nowMs);
    assert.equal(lookups.polled, pollsMax);
    lookups.nextPoll().fail(new StorageError('unavailable', 'no session'));
    await turn();
    version.keepFresh(2_000);
    assert.equal(lookups.polled, pollsMax + 1);
  });
});
