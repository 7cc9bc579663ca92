import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { createLogger, flushed } from '../src/log.js';
import type { Logger } from '../src/log.js';

/** The text of all lines that `write` logs. */
async function logged(t: TestContext, write: (log: Logger) => void): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-log-'));
  const path = join(folder, 'log');
  const fd = openSync(path, 'w');
  t.after(() => {
    closeSync(fd);
    rmSync(folder, { recursive: true });
  });
  const log = createLogger('info', fd);
  write(log);
  await flushed(log);
  return readFileSync(path, 'utf8');
}

test('secrets and payloads are cut out of a line wherever they sit, and nothing else is', async (t) => {
  const text = await logged(t, (log) => {
    const headers = { authorization: 'SECRET', 'X-API-Key': 'SECRET', accept: 'kept' };
    log.info({ key: 'SECRET', secret: 'SECRET', orgId: 'kept', req: { id: 1, headers } }, 'one');
    log.info({ list: [{ payload: 'SECRET', type: 'kept' }] }, 'two');
    log.child({ key: 'SECRET', part: 'kept' }).info('three');
    log.info({ a: { b: { c: { d: { key: 'SECRET' } } } } }, 'four');
  });
  assert.equal(text.includes('SECRET'), false, text);
  assert.equal(text.match(/"kept"/g)?.length, 4);
  assert.equal(text.match(/\[redacted\]/g)?.length, 6);
});

test('the caller’s object is not changed by the cut', async (t) => {
  const fields = { headers: { authorization: 'mine' } };
  await logged(t, (log) => log.info(fields, 'line'));
  assert.deepEqual(fields, { headers: { authorization: 'mine' } });
});

test('an error is logged without the fields in which a database quotes a row, down to its cause', async (t) => {
  const database = Object.assign(new Error('violates check'), {
    code: '23514',
    detail: 'Failing row: ROW',
    where: 'line 1: "ROW"',
  });
  const text = await logged(t, (log) =>
    log.error({ err: new AggregateError([new Error('outer', { cause: database })], 'all') }),
  );
  assert.equal(text.includes('ROW'), false, text);
  for (const kept of [
    '"message":"all"',
    '"message":"outer"',
    '"message":"violates check"',
    '"code":"23514"',
    '"stack"',
  ]) {
    assert.ok(text.includes(kept), kept);
  }
});

test('a line is one JSON object with its level by name and its time in UTC', async (t) => {
  const text = await logged(t, (log) => log.warn({ value: 'a\nb' }, 'text'));
  assert.equal(text.indexOf('\n'), text.length - 1);
  assert.match(text, /^\{"level":"warn","time":"\d{4}-\d\d-\d\dT[\d:.]+Z",.*"value":"a\\nb","msg":"text"\}\n$/);
});
