import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import type { ServerResponse } from 'node:http';
import { test } from 'node:test';
import { Problem } from '../../src/errors.js';
import { ReplyBudget } from '../../src/http/reply-budget.js';

const megabyte = 1024 * 1024;

function response(): ServerResponse {
  return Object.assign(new EventEmitter(), { destroyed: false }) as unknown as ServerResponse;
}

test('replies that nobody reads are refused before they fill the memory, and their room is free again when they are closed', () => {
  const budget = new ReplyBudget();
  const unread = Array.from({ length: 64 }, response);
  for (const one of unread) budget.reserve(one, 4 * megabyte);
  assert.equal(budget.heldBytes, 256 * megabyte);
  const refused = (error: unknown): boolean => error instanceof Problem && error.code === 'overloaded';
  assert.throws(() => budget.reserve(response(), 4 * megabyte), refused);
  unread[0]?.emit('close');
  budget.reserve(response(), 4 * megabyte);
  for (const one of unread.slice(1)) one.emit('close');
  assert.equal(budget.heldBytes, 4 * megabyte);
});

test('a large reply whose size was not known before counts too; a small one does not', () => {
  const budget = new ReplyBudget();
  const large = response();
  budget.count(large, 300 * megabyte);
  budget.count(response(), 1000);
  assert.equal(budget.heldBytes, 300 * megabyte);
  assert.throws(() => budget.reserve(response(), 0), Problem);
  large.emit('close');
  assert.equal(budget.heldBytes, 0);
});
