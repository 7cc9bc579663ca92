import assert from 'node:assert/strict';
import test from 'node:test';
import * as fc from 'fast-check';
import { formatTime, parseTime, timeMaxMs, timeMinMs } from '../src/time-format.js';

function ms(text: string): number {
  const time = parseTime(text);
  return 'ms' in time ? time.ms : assert.fail(`${text} ${time.problem}`);
}

void test('a time is written in UTC with milliseconds and four digits of year, and read back the same', () => {
  assert.equal(formatTime(0), '1970-01-01T00:00:00.000Z');
  assert.equal(formatTime(timeMinMs), '0001-01-01T00:00:00.000Z');
  assert.equal(formatTime(timeMaxMs), '9999-12-31T23:59:59.999Z');
  fc.assert(
    fc.property(fc.integer({ min: timeMinMs, max: timeMaxMs }), (time) => {
      assert.match(formatTime(time), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
      assert.equal(ms(formatTime(time)), time);
    }),
  );
});

void test('a time outside of the years 0001 to 9999 is not written', () => {
  for (const time of [timeMinMs - 1, timeMaxMs + 1, NaN, Infinity]) assert.throws(() => formatTime(time), RangeError);
});

void test('zones are converted, and fractions cut to milliseconds', () => {
  assert.equal(ms('2026-11-21T10:00:00+01:30'), Date.UTC(2026, 10, 21, 8, 30));
  assert.equal(ms('2026-11-21T10:00:00-23:59'), Date.UTC(2026, 10, 22, 9, 59));
  assert.equal(ms('2026-11-21t10:00:00z'), Date.UTC(2026, 10, 21, 10));
  assert.equal(ms('2026-11-21T10:00:00.1Z'), Date.UTC(2026, 10, 21, 10, 0, 0, 100));
  assert.equal(ms('2026-11-21T10:00:00.123999999Z'), Date.UTC(2026, 10, 21, 10, 0, 0, 123));
  assert.equal(ms('1969-12-31T23:59:59.9999Z'), -1);
  assert.equal(ms('0001-01-01T00:00:00-00:00'), timeMinMs);
  assert.equal(ms('0099-12-31T23:59:59Z'), Date.parse('0099-12-31T23:59:59Z'));
  assert.equal(ms('2000-02-29T00:00:00Z'), Date.UTC(2000, 1, 29));
});

void test('what is not a time is refused with what would be right', () => {
  const refused: Record<string, RegExp> = {
    '2026-02-29T00:00:00Z': /calendar/,
    '1900-02-29T00:00:00Z': /calendar/,
    '2026-04-31T00:00:00Z': /calendar/,
    '2026-13-01T00:00:00Z': /calendar/,
    '2026-00-01T00:00:00Z': /calendar/,
    '2026-01-00T00:00:00Z': /calendar/,
    '2026-01-01T24:00:00Z': /00 to 23/,
    '2026-01-01T00:60:00Z': /00 to 59/,
    '2026-01-01T00:00:61Z': /00 to 59/,
    '2026-01-01T00:00:00+24:00': /zone/,
    '2026-01-01T00:00:00+00:60': /zone/,
    '2016-12-31T23:59:60Z': /leap second/,
    '0000-12-31T23:59:59Z': /0001 and 9999/,
    '0001-01-01T00:00:00+00:01': /0001 and 9999/,
    '9999-12-31T23:59:59-00:01': /0001 and 9999/,
    '2026-01-01T00:00:00': /RFC 3339/,
    '2026-01-01': /RFC 3339/,
    '2026-01-01 00:00:00Z': /RFC 3339/,
    '2026-01-01T00:00Z': /RFC 3339/,
    '2026-01-01T00:00:00.Z': /RFC 3339/,
    '2026-01-01T00:00:00.1234567890Z': /RFC 3339/,
    '2026-01-01T00:00:00+0100': /RFC 3339/,
    '+002026-01-01T00:00:00Z': /RFC 3339/,
    '2026-01-01T00:00:00Z\n': /RFC 3339/,
    '٢026-01-01T00:00:00Z': /RFC 3339/,
    '': /RFC 3339/,
  };
  for (const [text, reason] of Object.entries(refused)) {
    const time = parseTime(text);
    assert.match('problem' in time ? time.problem : 'accepted', reason, text);
  }
});
