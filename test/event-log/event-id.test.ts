import assert from 'node:assert/strict';
import test from 'node:test';
import * as fc from 'fast-check';
import { decodeEventId, encodeEventId, type EventAddress } from '../../src/event-log/event-id.js';
import { anyCharacter } from '../code-points.js';

const addresses: fc.Arbitrary<EventAddress> = fc.record(
  {
    org: fc.integer({ min: 0, max: 2 ** 48 - 1 }).map(String),
    epoch: fc.integer({ min: 0, max: 2 ** 24 - 1 }),
    position: fc.integer({ min: 0, max: 2 ** 48 - 1 }),
    day: fc.integer({ min: 0, max: 2 ** 20 - 1 }),
  },
  { noNullPrototype: true },
);

const greatest: EventAddress = {
  org: String(2 ** 48 - 1),
  epoch: 2 ** 24 - 1,
  position: 2 ** 48 - 1,
  day: 2 ** 20 - 1,
};

void test('every part of the address stands in its bits, most significant first', () => {
  const zero: EventAddress = { org: '0', epoch: 0, position: 0, day: 0 };
  assert.equal(encodeEventId(zero), `evt_${'0'.repeat(28)}`);
  assert.equal(encodeEventId(greatest), `evt_${'Z'.repeat(28)}`);
  assert.equal(encodeEventId({ ...zero, day: 1 }), `evt_${'0'.repeat(27)}1`);
  assert.equal(encodeEventId({ ...zero, position: 1 }), 'evt_0000000000000000000000010000');
  assert.equal(encodeEventId({ ...zero, epoch: 1 }), 'evt_0000000000000080000000000000');
  assert.equal(encodeEventId({ ...zero, org: '1' }), 'evt_0000000004000000000000000000');
});

void test('an id leads back to its address', () => {
  fc.assert(
    fc.property(addresses, (address) => {
      const id = encodeEventId(address);
      assert.match(id, /^evt_[0-9A-HJKMNP-TV-Z]{28}$/);
      assert.deepEqual(decodeEventId(id), address);
    }),
    { numRuns: 2000 },
  );
  assert.deepEqual(decodeEventId(encodeEventId(greatest)), greatest);
});

void test('the ids of an org sort by epoch, then by position', () => {
  fc.assert(
    fc.property(addresses, addresses, (one, other) => {
      const a = { ...one, org: '77' };
      const b = { ...other, org: '77' };
      const order = Math.sign(a.epoch - b.epoch || a.position - b.position || a.day - b.day);
      const [left, right] = [encodeEventId(a), encodeEventId(b)];
      assert.equal(left < right ? -1 : left > right ? 1 : 0, order);
    }),
    { numRuns: 1000 },
  );
});

void test('a text that decodes is the one spelling of its id', () => {
  const id = encodeEventId({ org: '187649984473770', epoch: 3, position: 123_456_789, day: 20_778 });
  const spellings = [
    id.toLowerCase(),
    id.replace('evt_', 'EVT_'),
    id.replace('evt_', 'org_'),
    id.slice(0, -1),
    `${id}0`,
    ` ${id.slice(1)}`,
    `${id.slice(0, -1)} `,
    `${id.slice(0, 10)}-${id.slice(11)}`,
    ...['I', 'L', 'O', 'U', 'i', '\0', 'é', 'Ａ', '\u0130'].map((digit) => `${id.slice(0, 9)}${digit}${id.slice(10)}`),
    '',
    'evt_',
  ];
  for (const spelling of spellings) assert.equal(decodeEventId(spelling), null, spelling);
  const nearby = fc
    .tuple(fc.nat(31), fc.oneof(anyCharacter, fc.constantFrom(...'abz019AZILOU'.split(''))))
    .map(([at, character]) => id.slice(0, at) + character + id.slice(at + 1));
  fc.assert(
    fc.property(nearby, (text) => {
      const address = decodeEventId(text);
      assert.ok(address === null || encodeEventId(address) === text);
    }),
    { numRuns: 2000 },
  );
});

void test('an address that does not fit its bits is not encoded', () => {
  const bad: Partial<EventAddress>[] = [
    { org: String(2 ** 48) },
    { org: '-1' },
    { org: '' },
    { org: '1e3' },
    { org: ' 1' },
    { org: '0x10' },
    { epoch: 2 ** 24 },
    { epoch: -1 },
    { position: 2 ** 48 },
    { position: 0.5 },
    { day: 2 ** 20 },
    { day: NaN },
  ];
  for (const part of bad)
    assert.throws(() => encodeEventId({ ...greatest, ...part }), RangeError, JSON.stringify(part));
});
