import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { failureSentence } from '../../src/cli/failure.js';
import { readInvocation } from '../../src/config.js';
import type { Config } from '../../src/config.js';

function configOf(environment: Record<string, string>): Config {
  const invocation = readInvocation([], environment);
  assert.equal(invocation.kind, 'start');
  return invocation.config;
}

const embedded = configOf({});
const token = 'the-admin-token-of-it';
const postgres = configOf({ DATABASE_URL: 'postgres://user:p%40ss@db.example:5433/it', SLUICE_ADMIN_TOKEN: token });

/** The error of a real listen call that fails. */
async function listenError(port: number, host: string): Promise<unknown> {
  const server = createServer();
  const [error]: unknown[] = await once(server.listen(port, host), 'error').catch((thrown: unknown) => [thrown]);
  return error;
}

test('a port in use is named, with the flag that chooses another', async (t) => {
  const holder = createServer();
  await once(holder.listen(0, '127.0.0.1'), 'listening');
  t.after(() => holder.close());
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a TCP listener has an AddressInfo
  const { port } = holder.address() as AddressInfo;
  const error = await listenError(port, '127.0.0.1');
  const config = { ...embedded, port };
  const expected = `Port ${port} of 127.0.0.1 is in use; stop the program that has it, or choose another port with --port.`;
  assert.equal(failureSentence(error, config), expected);
  assert.equal(failureSentence(new Error('it did not start', { cause: error }), config), expected);
  assert.match(failureSentence(error, { ...embedded, metricsPort: port }), /with --metrics-port\.$/);
});

test('an address that is not of this machine is named, with the flag that chooses another', async () => {
  const error = await listenError(0, '192.0.2.1');
  assert.match(failureSentence(error, { ...embedded, host: '192.0.2.1' }), /^Cannot listen on 192\.0\.2\.1 .*--host/);
});

test('what the database says when it cannot be used becomes what to do next', () => {
  for (const [code, expected] of [
    ['ECONNREFUSED', /^No PostgreSQL answers at db\.example:5433 .*DATABASE_URL\.$/],
    ['ENOTFOUND', /^No PostgreSQL answers at db\.example:5433 .*DATABASE_URL\.$/],
    ['28P01', /refuses the user or password of DATABASE_URL/],
    ['3D000', /createdb/],
    ['53300', /--db-pool/],
  ] as const) {
    const cause = Object.assign(new Error('driver text'), { code });
    assert.match(failureSentence(cause, postgres), expected);
    assert.match(failureSentence(new Error('cannot connect', { cause }), postgres), expected);
    assert.match(failureSentence(new AggregateError([cause], 'several addresses'), postgres), expected);
  }
});

test('any other failure is its own first line', () => {
  assert.equal(
    failureSentence(new Error('The folder is locked by process 7.\n    at x'), embedded),
    'The folder is locked by process 7.',
  );
  assert.equal(failureSentence('text', embedded), 'text');
});

test('a lock that is a local socket is not taken for a port', () => {
  const cause = Object.assign(new Error('listen EADDRINUSE'), {
    code: 'EADDRINUSE',
    syscall: 'listen',
    address: '\0lock',
    port: -1,
  });
  assert.equal(failureSentence(new Error('The folder is locked.', { cause }), embedded), 'The folder is locked.');
});

test('neither the admin token nor the password, encoded or not, is ever part of it', () => {
  const text = `bad: ${postgres.databaseUrl} p%40ss p@ss ${token}`;
  const sentence = failureSentence(new Error(text), postgres);
  for (const secret of ['p%40ss', 'p@ss', token]) assert.equal(sentence.includes(secret), false, sentence);
  assert.match(sentence, /^bad: /);
});
