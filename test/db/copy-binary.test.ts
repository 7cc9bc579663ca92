import assert from 'node:assert/strict';
import test from 'node:test';
import * as fc from 'fast-check';
import { encodeCopyRows, type ColumnKind, type CopyValue } from '../../src/db/copy-binary.js';
import { timeMaxMs, timeMinMs } from '../../src/time-format.js';
import { anyCharacter } from '../code-points.js';

const headerHex = '5047434f50590aff0d0a000000000000000000';

/** The bytes of one row's only field, its length included. */
function field(kind: ColumnKind, value: CopyValue): string {
  const hex = encodeCopyRows([kind], [[value]]).toString('hex');
  assert.equal(hex.slice(0, 42), `${headerHex}0001`);
  assert.equal(hex.slice(-4), 'ffff');
  return hex.slice(42, -4);
}

void test('no rows are a header and a trailer', () => {
  assert.equal(encodeCopyRows(['int4'], []).toString('hex'), `${headerHex}ffff`);
});

void test('a row is its field count and each field with its length', () => {
  const rows = [
    [1, '258', 'hé', null],
    [-1, -2, Buffer.from('x'), Buffer.from([0, 255])],
  ];
  const expected = [
    ['0004', '00000004', '00000001', '00000008', '0000000000000102', '00000003', '68c3a9', 'ffffffff'],
    ['0004', '00000004', 'ffffffff', '00000008', 'fffffffffffffffe', '00000001', '78', '00000002', '00ff'],
  ];
  assert.equal(
    encodeCopyRows(['int4', 'int8', 'text', 'bytea'], rows).toString('hex'),
    `${headerHex}${expected.flat().join('')}ffff`,
  );
});

void test('jsonb is the version 1 and the text', () => {
  assert.equal(field('jsonb', '{}'), '00000003017b7d');
  assert.equal(field('jsonb', Buffer.from('"é"')), '000000050122c3a922');
  assert.equal(field('jsonb', null), 'ffffffff');
});

void test('an empty text is not a null', () => {
  assert.equal(field('text', ''), '00000000');
  assert.equal(field('bytea', Buffer.alloc(0)), '00000000');
  assert.equal(field('text', null), 'ffffffff');
});

void test('a timestamp is microseconds since 2000 in 64 bits, exact over the years 0001 to 9999', () => {
  assert.equal(field('timestamptz', Date.UTC(2000, 0, 1)), '000000080000000000000000');
  assert.equal(field('timestamptz', Date.UTC(2000, 0, 1) - 1), '00000008fffffffffffffc18');
  assert.equal(field('timestamptz', 0), '00000008fffca2fec4c82000');
  const times = fc.oneof(
    fc.integer({ min: timeMinMs, max: timeMaxMs }),
    fc.constantFrom(timeMinMs, timeMaxMs, -1, 0, 1),
  );
  fc.assert(
    fc.property(times, (ms) => {
      const expected = (BigInt(ms) - 946_684_800_000n) * 1000n;
      assert.equal(Buffer.from(field('timestamptz', ms), 'hex').readBigInt64BE(4), expected);
    }),
    { numRuns: 500 },
  );
});

void test('an int8 is exact, from a safe number and from any decimal digits in its range', () => {
  fc.assert(fc.property(fc.maxSafeInteger(), (number) => exact(number) === BigInt(number)));
  fc.assert(
    fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), (number) => exact(String(number)) === number),
  );
  for (const digits of [
    '9223372036854775807',
    '-9223372036854775808',
    '999999999999999',
    '1000000000000000',
    '-1',
    '0',
  ]) {
    assert.equal(exact(digits), BigInt(digits));
  }
});

void test('text of any length and alphabet is its UTF-8', () => {
  const text = fc.oneof(fc.string({ unit: anyCharacter, maxLength: 80 }), fc.string({ maxLength: 80 }));
  fc.assert(
    fc.property(fc.array(fc.tuple(text, text), { maxLength: 5 }), (rows) => {
      const expected = rows.map(([a, b]) => `0002${sized(Buffer.from(a))}${sized(Buffer.from(b))}`).join('');
      assert.equal(encodeCopyRows(['text', 'text'], rows).toString('hex'), `${headerHex}${expected}ffff`);
    }),
    { numRuns: 500 },
  );
});

function exact(value: number | string): bigint {
  return Buffer.from(field('int8', value), 'hex').readBigInt64BE(4);
}

function sized(bytes: Buffer): string {
  return bytes.length.toString(16).padStart(8, '0') + bytes.toString('hex');
}

void test('a value that its column cannot hold is refused', () => {
  const refused: [ColumnKind, CopyValue | undefined][] = [
    ['int4', 2 ** 31],
    ['int4', -(2 ** 31) - 1],
    ['int4', 0.5],
    ['int4', '1'],
    ['int8', 2 ** 53],
    ['int8', NaN],
    ['int8', ''],
    ['int8', '1.5'],
    ['int8', '0x10'],
    ['int8', '9223372036854775808'],
    ['int8', Buffer.from('1')],
    ['text', 1],
    ['text', undefined],
    ['bytea', 'text'],
    ['jsonb', 1],
    ['timestamptz', '2026-01-01'],
    ['timestamptz', timeMaxMs + 1],
    ['timestamptz', timeMinMs - 1],
    ['timestamptz', 0.5],
    ['timestamptz', NaN],
  ];
  for (const [kind, value] of refused) {
    const encode = (): Buffer => encodeCopyRows([kind], [[value!]]);
    assert.throws(
      encode,
      (error) => error instanceof TypeError || error instanceof RangeError,
      `${kind} ${String(value)}`,
    );
  }
});

void test('a row with another number of values than there are columns is refused', () => {
  assert.throws(() => encodeCopyRows(['int4', 'int4'], [[1]]), TypeError);
  assert.throws(() => encodeCopyRows(['int4'], [[1, 2]]), TypeError);
});
