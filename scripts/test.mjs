/**
 * `npm test [-- files]` and `npm run soak`: installs and builds if needed, starts one PostgreSQL for the whole run, and runs the tests against
 * it and the embedded engine. Files are named as sources or as built: `test/config.test.ts`.
 */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { prepare, root } from './prepare.mjs';

const unproven = `
  ############################################################################################
  No PostgreSQL was found on this machine (initdb and postgres, 15 or newer), so nothing was
  shown about Sluice on PostgreSQL. Unproven in this run, on that engine:
    P1, P2  acknowledged events survive kill -9, once each; a failed COPY is never a 2xx
    P5, P6  payloads byte for byte; row-level security, roles and grants
    dedup and reserve from several nodes at once, without a double and without a deadlock
    the conformance suite of the database interface
  Install it (on Debian: apt-get install postgresql) and run the tests again.
  ############################################################################################
`;

const unprovenPooler = `
  ############################################################################################
  No PgBouncer was found on this machine (on PATH, or named by SLUICE_TEST_PGBOUNCER), so
  nothing was shown about Sluice behind a pooler in transaction mode (P1, P2, P6 there).
  Install it (on Debian: apt-get install pgbouncer) and run the tests again.
  ############################################################################################
`;

/** A file that hangs is killed after this. The soak's files repeat their work ten times. */
const fileMinutesMax = 15;
const soakFileMinutesMax = 120;

const args = process.argv.slice(2);
const isSoak = args.includes('--soak');
const named = args.filter((argument) => argument !== '--soak');
/** The process that runs the tests, once there is one. */
let runner;

await prepare();
process.exitCode = await main();

async function main() {
  // Exiting, rather than being killed, lets the database be removed.
  for (const signal of ['SIGTERM', 'SIGINT'])
    process.on(signal, () => (runner ? runner.kill(signal) : process.exit(1)));
  const files = named.length > 0 ? named.map(builtFile) : testFiles();
  const { startPostgresServer } = await import('../dist/test/support/postgres-server.js');
  const server = await startPostgresServer();
  if (server === null) process.stderr.write(unproven);
  const { withoutPgbouncer } = await import('../dist/test/support/pgbouncer.js');
  if (withoutPgbouncer !== false) process.stderr.write(unprovenPooler);
  let code;
  try {
    code = await runTests(files, server);
  } finally {
    await server?.stop();
  }
  if (withoutPgbouncer !== false) process.stderr.write(unprovenPooler);
  if (server === null) process.stderr.write(unproven);
  if (server !== null && withoutPgbouncer === false) return code;
  // A machine that checks changes must not call half a check a success.
  return code === 0 && process.env.CI ? 1 : code;
}

function testFiles() {
  return readdirSync(join(root, 'dist', 'test'), { recursive: true })
    .filter((file) => file.endsWith('.test.js'))
    .map((file) => join('dist', 'test', file))
    .toSorted();
}

function builtFile(file) {
  const source = file.replace(/^\.\//, '');
  return source.startsWith('dist/') ? source : join('dist', source.replace(/\.ts$/, '.js'));
}

/** Resolves with the runner's exit code. */
async function runTests(files, server) {
  const minutesMax = isSoak ? soakFileMinutesMax : fileMinutesMax;
  const flags = [
    '--test',
    '--test-reporter=spec',
    // Tests mostly wait for commits: with two files at a time, two cores were idle for more than half of it. More than three make starts of servers and
    // databases so slow that their time limits mean nothing.
    '--test-concurrency=3',
    `--test-timeout=${minutesMax * 60_000}`,
    '--enable-source-maps',
  ];
  const env = { ...process.env };
  if (isSoak) env.SLUICE_TEST_SOAK = '1';
  if (server !== null) env.SLUICE_TEST_POSTGRES_PORT = String(server.port);
  runner = spawn(process.execPath, [...flags, ...files], { cwd: root, env, stdio: 'inherit' });
  return new Promise((resolve, reject) => {
    runner.once('error', reject);
    runner.once('close', (code) => resolve(code ?? 1));
  });
}
