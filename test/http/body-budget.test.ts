import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import type { ServerResponse } from 'node:http';
import test from 'node:test';
import type { Identity } from '../../src/admission/authenticate.js';
import { BodyBudget } from '../../src/http/body-budget.js';

const mebibyte = 1024 * 1024;
/** Smaller ones are bounded by the number of connections. */
const counted = 16 * 1024;
const limit = { bytesMax: 8 * mebibyte, code: 'batch_too_large' } as const;

function response(): ServerResponse {
  return Object.assign(new EventEmitter(), { destroyed: false }) as unknown as ServerResponse;
}

function of(org: string): Identity {
  return { org } as Identity;
}

test('one org may hold half of what all may, and a closed response gives back what it held', () => {
  const budget = new BodyBudget();
  const held: ServerResponse[] = [];
  const reserve = (org: string, headers: Record<string, string>): void => {
    const next = response();
    budget.reserve(next, of(org), headers, limit);
    held.push(next);
  };
  // In chunks: as large as it may become.
  const chunked = { 'transfer-encoding': 'chunked' };
  for (let i = 0; i < 16; i++) reserve('1', chunked);
  assert.throws(() => reserve('1', { 'content-length': String(counted) }), {
    code: 'overloaded',
    retryAfterSeconds: 1,
  });
  for (let i = 0; i < 128; i++) reserve('2', { 'content-length': String(mebibyte) });
  assert.throws(() => reserve('3', { 'content-length': String(counted) }), { code: 'overloaded' });
  held[0]?.emit('close');
  reserve('3', { 'content-length': String(8 * mebibyte) });
  assert.throws(() => reserve('1', { 'content-length': String(counted) }), { code: 'overloaded' });
  for (const one of held) one.emit('close');
  for (let i = 0; i < 16; i++) reserve('1', chunked);
});

test('a body in chunks counts as the largest until it has arrived, and then as what it is', () => {
  const budget = new BodyBudget();
  const chunked = { 'transfer-encoding': 'chunked' };
  const rooms = Array.from({ length: 16 }, () => budget.reserve(response(), of('1'), chunked, limit));
  assert.throws(() => budget.reserve(response(), of('1'), chunked, limit), { code: 'overloaded' });
  for (const room of rooms) room?.arrived(counted);
  assert.equal(budget.heldBytes, 16 * counted);
  budget.reserve(response(), of('1'), chunked, limit);
});

test('what a compressed body has become counts, small as it was, and no body and a small one do not', () => {
  const budget = new BodyBudget();
  const gzip = { 'content-length': '100', 'content-encoding': 'gzip' };
  const inflate = (): void => budget.reserve(response(), of('1'), gzip, limit)?.arrived(8 * mebibyte);
  for (let i = 0; i < 16; i++) inflate();
  assert.throws(inflate, { code: 'overloaded' });
  assert.equal(budget.reserve(response(), of('1'), {}, limit), null);
  assert.equal(budget.reserve(response(), of('1'), { 'content-length': String(counted - 1) }, limit), null);
});
