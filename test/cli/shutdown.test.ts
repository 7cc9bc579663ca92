import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { runChild } from './child.js';
import type { Child } from './child.js';

async function stoppingChild(t: TestContext): Promise<Child> {
  const child = runChild(t, 'shutdown-child.js');
  await child.saw('stderr', /^waiting$/m);
  child.signal('SIGTERM');
  await child.saw('stderr', /^stop called$/m);
  return child;
}

test('a signal within half a second of the first is the same Ctrl-C; a later one ends the process with 1 at once', async (t) => {
  const child = await stoppingChild(t);
  child.send(499);
  await child.saw('stderr', /^now 499$/m);
  child.signal('SIGINT');
  await child.saw('stderr', /^SIGINT handled$/m);
  child.send(1);
  await child.saw('stderr', /^now 500$/m);
  child.signal('SIGINT');
  assert.equal(await child.ended, 1);
  assert.match(child.stderr(), /second signal/);
  assert.equal(child.stderr().match(/^stop called$/gm)?.length, 1);
});

test('a stop that takes longer than its limit is given up with 1', async (t) => {
  const child = await stoppingChild(t);
  child.send(14_999);
  await child.saw('stderr', /^now 14999$/m);
  child.send(1);
  assert.equal(await child.ended, 1);
  assert.match(child.stderr(), /took too long/);
});
