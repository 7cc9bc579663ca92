import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Sending, Stored } from './ledger.js';
import { violations } from './ledger.js';

const receipt = { status: 201, id: 'evt_1', receivedAt: 'then' };
const acknowledged = (changes: Partial<Sending> = {}): Sending => ({
  token: 'a',
  payload: '{"token":"a"}',
  dedupId: null,
  receipts: [receipt],
  unknown: false,
  ...changes,
});
const stored = (changes: Partial<Stored> = {}): Stored => ({
  id: 'evt_1',
  token: 'a',
  payload: '{"token":"a"}',
  ...changes,
});

describe('the check of what is stored against what was acknowledged', () => {
  const flaws: readonly (readonly [string, Sending[], Stored[], RegExp])[] = [
    ['missing', [acknowledged()], [], /a was acknowledged as evt_1 and is missing/],
    ['doubled', [acknowledged()], [stored(), stored({ id: 'evt_2' })], /stored 2 times/],
    ['listed twice', [acknowledged()], [stored(), stored()], /evt_1 is listed twice/],
    ['altered', [acknowledged()], [stored({ payload: '{"token": "a"}' })], /came back altered/],
    ['under another id', [acknowledged()], [stored({ id: 'evt_2' })], /was given evt_1 and is evt_2/],
    ['sent by nobody', [], [stored()], /nobody sent a/],
    ['refused, and stored', [acknowledged({ receipts: [] })], [stored()], /was refused and is stored/],
    [
      'doubled after an unknown outcome',
      [acknowledged({ receipts: [], unknown: true })],
      [stored(), stored({ id: 'evt_2' })],
      /stored 2 times/,
    ],
    [
      'given two ids',
      [acknowledged({ receipts: [receipt, { ...receipt, status: 200, id: 'evt_2' }] })],
      [stored()],
      /was given evt_1 and evt_2/,
    ],
    ['answered 201 twice', [acknowledged({ receipts: [receipt, receipt] })], [stored()], /answered 201 twice/],
  ];
  for (const [flaw, sendings, events, expected] of flaws) {
    it(`reports an event that is ${flaw}`, () => assert.match(violations(sendings, events).join('\n'), expected));
  }

  it('has nothing to say where each acknowledged event is there once, and an unknown one once or not at all', () => {
    assert.deepEqual(violations([acknowledged()], [stored()]), []);
    const open = acknowledged({ receipts: [], unknown: true });
    assert.deepEqual(violations([open], [stored()]), []);
    assert.deepEqual(violations([open], []), []);
    assert.deepEqual(violations([acknowledged({ receipts: [], unknown: false })], []), []);
  });
});
