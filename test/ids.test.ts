import assert from 'node:assert/strict';
import test from 'node:test';
import * as fc from 'fast-check';
import { compareOrgs, decodeOrgId, decodeRandomId, encodeOrgId, encodeRandomId } from '../src/ids.js';

const bytes16 = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from(bytes));

void test('an org id leads back to its number', () => {
  assert.equal(encodeOrgId('0'), 'org_0000000000');
  assert.equal(encodeOrgId('32'), 'org_0000000010');
  assert.equal(encodeOrgId(String(2 ** 48 - 1)), 'org_7ZZZZZZZZZ');
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 48 - 1 }), (number) => {
      assert.equal(decodeOrgId(encodeOrgId(String(number))), String(number));
    }),
  );
});

void test('orgs are sorted as numbers, as the database sorts them', () => {
  const numbers = fc.array(fc.oneof(fc.nat({ max: 200 }), fc.integer({ min: 0, max: 2 ** 48 - 1 })));
  fc.assert(
    fc.property(numbers, (orgs) => {
      const sorted = orgs.map(String).toSorted(compareOrgs);
      assert.deepEqual(
        sorted.map(Number),
        orgs.toSorted((a, b) => a - b),
      );
    }),
  );
});

void test('a number that is no org number has no id', () => {
  for (const org of ['', '-1', '1.5', '1e3', '0x1', 'abc', String(2 ** 48)])
    assert.throws(() => encodeOrgId(org), RangeError);
});

void test('an org id has one spelling', () => {
  const spellings = [
    'org_8000000000',
    'org_ZZZZZZZZZZ',
    'org_000000000a',
    'org_000000000O',
    'org_000000000',
    'org_00000000000',
  ];
  for (const text of [...spellings, 'key_0000000000', '', 'org_', '0000000000'])
    assert.equal(decodeOrgId(text), null, text);
});

void test('a random id leads back to its bytes, under its own prefix only', () => {
  assert.equal(encodeRandomId('key', Buffer.alloc(16)), `key_${'0'.repeat(26)}`);
  assert.equal(encodeRandomId('lse', Buffer.alloc(16, 255)), `lse_7${'Z'.repeat(25)}`);
  assert.equal(
    encodeRandomId('whk', Buffer.from([...Array.from({ length: 15 }, () => 0), 1])),
    `whk_${'0'.repeat(25)}1`,
  );
  fc.assert(
    fc.property(bytes16, (bytes) => {
      const id = encodeRandomId('lse', bytes);
      assert.match(id, /^lse_[0-7][0-9A-HJKMNP-TV-Z]{25}$/);
      assert.deepEqual(decodeRandomId('lse', id), bytes);
      assert.equal(decodeRandomId('key', id), null);
    }),
  );
});

void test('a random id has one spelling', () => {
  const id = encodeRandomId('key', Buffer.alloc(16, 0xab));
  const spellings = [
    id.toLowerCase(),
    `key_8${id.slice(5)}`,
    id.slice(0, -1),
    `${id}0`,
    `${id.slice(0, -1)}U`,
    `${id.slice(0, -1)}é`,
  ];
  for (const text of spellings) assert.equal(decodeRandomId('key', text), null, text);
});

void test('only 16 bytes make a random id', () => {
  for (const length of [0, 15, 17]) assert.throws(() => encodeRandomId('key', Buffer.alloc(length)), RangeError);
});
