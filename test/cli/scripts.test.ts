import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const manifest: { version: string; scripts: Record<string, string> } = JSON.parse(
  readFileSync(`${root}package.json`, 'utf8'),
);

test('npm start hands its arguments on to the program, in the process that npm started', () => {
  const run = spawnSync(process.execPath, ['scripts/start.mjs', '--version'], { cwd: root, encoding: 'utf8' });
  assert.deepEqual([run.status, run.stdout], [0, `${manifest.version}\n`], run.stderr);
  // Without exec, a shell stands between npm and the server, dies of npm's SIGTERM and leaves the server behind.
  assert.equal(manifest.scripts['start'], 'exec node scripts/start.mjs');
});

test('flags that cannot be used end the program with 2 and a sentence each on standard error', () => {
  const run = spawnSync(process.execPath, ['dist/src/main.js', '--port', '99999', '--prot'], {
    cwd: root,
    encoding: 'utf8',
  });
  assert.deepEqual([run.status, run.stdout], [2, '']);
  assert.deepEqual(run.stderr.split('\n'), [
    '--prot: no such flag; did you mean --port?',
    '--port: 99999 is not a port; use a whole number from 0 to 65535',
    'npm start -- --help lists every setting.',
    '',
  ]);
});
