/** What each `sslmode` asks of the server's certificate, on a server that has one for `localhost` and its own authority. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { systemClock } from '../../src/clock.js';
import type { Database } from '../../src/db/database.js';
import { openPostgres } from '../../src/db/postgres.js';
import { startOwnPostgresServer } from '../support/postgres-server.js';

const server = await startOwnPostgresServer();
const openssl = hasOpenssl();
const skip =
  server === null || !openssl
    ? 'NOT TESTED: this machine lacks a PostgreSQL server, or openssl for a certificate'
    : false;

describe('a server with a certificate', { skip }, () => {
  if (server === null || !openssl) return;
  const folder = mkdtempSync(join(tmpdir(), 'sluice-tls-'));
  const certificate = join(folder, 'server.crt');
  const stranger = join(folder, 'stranger.crt');
  const opened: Database[] = [];
  before(async () => {
    const key = makeCertificate(folder, 'server');
    makeCertificate(folder, 'stranger');
    const database = await openPostgres({ url: server.url('postgres'), clock: systemClock, onLog: () => {} });
    opened.push(database);
    const { rows } = await database.query<{ folder: string }>(
      { role: 'owner' },
      { name: 'test_folder', text: `SELECT current_setting('data_directory') AS folder` },
    );
    const data = rows[0]?.folder ?? '';
    // The server takes a key only if it is its own user's and nobody else can read it.
    const { uid, gid } = statSync(data);
    for (const [from, to] of [
      [key, 'server.key'],
      [certificate, 'server.crt'],
    ] as const) {
      const file = join(data, to);
      writeFileSync(file, readFileSync(from), { mode: 0o600 });
      chmodSync(file, 0o600);
      execFileSync('chown', [`${uid}:${gid}`, file]);
    }
    for (const text of [`ALTER SYSTEM SET ssl = on`, 'SELECT pg_reload_conf()']) {
      await plain(text);
    }
  });
  after(async () => {
    await Promise.all(opened.map((database) => database.close()));
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  const plain = async (text: string): Promise<void> => {
    const { Client } = await import('pg');
    const client = new Client(server.url('postgres'));
    await client.connect();
    await client.query(text);
    await client.end();
  };
  const isEncrypted = async (host: string, parameters: string): Promise<boolean> => {
    const url = `postgres://sluice@${host}:${server.port}/postgres?${parameters}`;
    const database = await openPostgres({ url, clock: systemClock, onLog: () => {} });
    opened.push(database);
    const text = 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()';
    const { rows } = await database.query<{ ssl: boolean }>({ role: 'owner' }, { name: 'test_ssl', text });
    // What is open closes in order: nothing of an encrypted session is left behind.
    await database.close();
    return rows[0]?.ssl === true;
  };

  it('is spoken to in the clear where nothing else is asked for', async () => {
    assert.equal(await isEncrypted('localhost', 'sslmode=disable'), false);
    assert.equal(await isEncrypted('localhost', ''), false);
  });

  it('need prove nothing for require, but who signed it where a root is named', async () => {
    assert.equal(await isEncrypted('127.0.0.1', 'sslmode=require'), true);
    assert.equal(await isEncrypted('127.0.0.1', `sslmode=require&sslrootcert=${certificate}`), true);
    await assert.rejects(isEncrypted('127.0.0.1', `sslmode=require&sslrootcert=${stranger}`), /certificate/);
  });

  it('must be signed by the root for verify-ca, whatever its name', async () => {
    assert.equal(await isEncrypted('127.0.0.1', `sslmode=verify-ca&sslrootcert=${certificate}`), true);
    await assert.rejects(isEncrypted('127.0.0.1', `sslmode=verify-ca&sslrootcert=${stranger}`), /certificate/);
  });

  it('must be signed by the root and name the host for verify-full', async () => {
    assert.equal(await isEncrypted('localhost', `sslmode=verify-full&sslrootcert=${certificate}`), true);
    await assert.rejects(isEncrypted('127.0.0.1', `sslmode=verify-full&sslrootcert=${certificate}`), /altnames|IP/);
    await assert.rejects(isEncrypted('localhost', 'sslmode=verify-full'), /certificate/);
  });

  it('is not asked at all when a file is missing, and the sentence says which', async () => {
    const missing = join(folder, 'missing.crt');
    const asked = isEncrypted('localhost', `sslmode=verify-full&sslrootcert=${missing}`);
    await assert.rejects(asked, /the sslrootcert of DATABASE_URL cannot be read: ENOENT/);
  });
});

/** Signed by itself, for `localhost`. Returns the file of its key; the certificate's is `name.crt`. */
function makeCertificate(folder: string, name: string): string {
  const key = join(folder, `${name}.key`);
  const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
  const files = ['-keyout', key, '-out', join(folder, `${name}.crt`)];
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'];
  execFileSync('openssl', ['req', '-x509', ...curve, '-nodes', '-days', '2', ...names, ...files], { stdio: 'pipe' });
  return key;
}

function hasOpenssl(): boolean {
  try {
    execFileSync('openssl', ['version'], { stdio: 'pipe' });
    return true;
  } catch {
    return false;
  }
}
