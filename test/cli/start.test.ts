import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runChild } from './child.js';

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`${signal} stops the server once and ends the process with 0, its log written to the end`, async (t) => {
    const child = runChild(t, 'start-child.js');
    await child.saw('stderr', /^announced$/m);
    child.signal(signal);
    assert.equal(await child.ended, 0);
    assert.equal(child.stderr().match(/^stop called$/gm)?.length, 1);
    assert.match(child.stderr(), /"msg":"stopping"[^]*"msg":"stopped"/);
  });
}

test('standard output holds the banner and nothing else; the log is JSON lines on standard error', async (t) => {
  const child = runChild(t, 'start-child.js');
  await child.saw('stderr', /^announced$/m);
  child.signal('SIGTERM');
  await child.ended;
  const ready = child
    .stdout()
    .split('\n')
    .filter((line) => line.includes('ready'));
  assert.deepEqual(ready, ['Sluice is ready at http://127.0.0.1:8080']);
  assert.equal(child.stdout().includes('{"level"'), false);
  const logged = child
    .stderr()
    .split('\n')
    .filter((line) => line.startsWith('{'));
  assert.ok(logged.length >= 2);
  for (const line of logged) assert.equal(typeof JSON.parse(line), 'object');
});

test('a signal during the start stops the server as soon as it is there, without a banner', async (t) => {
  const child = runChild(t, 'start-child.js', ['slow-start']);
  await child.saw('stderr', /^opening$/m);
  child.signal('SIGTERM');
  await child.saw('stderr', /"msg":"stopping"/);
  child.send('go on');
  assert.equal(await child.ended, 0);
  assert.equal(child.stdout(), '');
  assert.equal(child.stderr().includes('announced'), false);
});

test('a start that fails is one plain sentence and exit code 1; its stack shows at level debug only', async (t) => {
  const quiet = runChild(t, 'start-child.js', ['start-fails']);
  assert.equal(await quiet.ended, 1);
  assert.equal(quiet.stderr(), 'opening\nthe folder is locked; stop process 1\n');
  assert.equal(quiet.stdout(), '');

  const verbose = runChild(t, 'start-child.js', ['start-fails', 'debug']);
  assert.equal(await verbose.ended, 1);
  assert.match(verbose.stderr(), /"stack":"Error: the folder is locked/);
});

test('a stop that fails ends the process with 1', async (t) => {
  const child = runChild(t, 'start-child.js', ['stop-fails']);
  await child.saw('stderr', /^announced$/m);
  child.signal('SIGTERM');
  assert.equal(await child.ended, 1);
  assert.match(child.stderr(), /cannot flush/);
});

test('a failure that nobody caught is logged as fatal and ends the process with 1', async (t) => {
  const child = runChild(t, 'start-child.js', ['crash']);
  assert.equal(await child.ended, 1);
  assert.match(child.stderr(), /"level":"fatal".*nobody caught this.*"origin":"unhandledRejection"/);
});

test('a first key that nobody can have read does not count as shown', async (t) => {
  const child = runChild(t, 'start-child.js', ['slow-start']);
  child.closeStdout();
  await child.saw('stderr', /^opening$/m);
  child.send('go on');
  await child.saw('stderr', /standard output is closed/);
  child.signal('SIGTERM');
  assert.equal(await child.ended, 0);
  assert.equal(child.stderr().includes('announced'), false);
});
