import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import type { ServerResponse } from 'node:http';
import test from 'node:test';
import type { Identity } from '../../src/admission/authenticate.js';
import { BodyBudget } from '../../src/http/body-budget.js';

const mebibyte = 1024 * 1024;
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
  assert.throws(() => reserve('1', { 'content-length': '1' }), { code: 'overloaded', retryAfterSeconds: 1 });
  for (let i = 0; i < 128; i++) reserve('2', { 'content-length': String(mebibyte) });
  assert.throws(() => reserve('3', { 'content-length': '1' }), { code: 'overloaded' });
  held[0]?.emit('close');
  reserve('3', { 'content-length': String(8 * mebibyte) });
  assert.throws(() => reserve('1', { 'content-length': '1' }), { code: 'overloaded' });
  for (const one of held) one.emit('close');
  for (let i = 0; i < 16; i++) reserve('1', chunked);
});

test('what a compressed body has become counts, too, and a request without a body does not', () => {
  const budget = new BodyBudget();
  for (let i = 0; i < 16; i++) budget.count(response(), of('1'), 8 * mebibyte);
  assert.throws(() => budget.count(response(), of('1'), 1), { code: 'overloaded' });
  budget.reserve(response(), of('1'), {}, limit);
});
