import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, mkdtempSync, openSync, closeSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Client } from 'pg';
import { freePort, unprivilegedUser } from './postgres-server.js';

export interface Pgbouncer {
  url(database: string): string;
  stop(): Promise<void>;
}

export interface PgbouncerOptions {
  /** Connections to the server, at most, for each database. */
  readonly poolSize: number;
  readonly mode: 'transaction' | 'session';
  /** Zero, as every version before 1.21: named statements are not kept track of. */
  readonly preparedMax: number;
}

/** It keeps track of named statements from this version on. */
const trackingMin = [1, 21] as const;
const readyMsMax = 10_000;

/** Why what goes through PgBouncer cannot be shown on this machine; false if it can. */
export const withoutPgbouncer: string | false =
  findPgbouncer() === null ? 'NOT TESTED: there is no PgBouncer on this machine' : false;
/** Whether the one here can keep track of named statements. */
export const pgbouncerTracks = findPgbouncer()?.tracks === true;

/** A PgBouncer in front of the server on `serverPort`, for the user `sluice`. Only where `withoutPgbouncer` is false. */
export async function startPgbouncer(serverPort: number, options: PgbouncerOptions): Promise<Pgbouncer> {
  const found = findPgbouncer();
  if (found === null) throw new Error('there is no PgBouncer');
  const folder = mkdtempSync(join(tmpdir(), 'sluice-pgbouncer-'));
  const port = await freePort();
  const [users, config, logFile] = ['users', 'ini', 'log'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  writeFileSync(users, '"sluice" ""\n');
  writeFileSync(
    config,
    `[databases]
* = host=127.0.0.1 port=${serverPort}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = trust
auth_file = ${users}
pool_mode = ${options.mode}
default_pool_size = ${options.poolSize}
${found.tracks ? `max_prepared_statements = ${options.preparedMax}` : ''}
max_client_conn = 500
`,
  );
  const user = unprivilegedUser();
  if (user) for (const path of [folder, users, config]) chownSync(path, user.uid, user.gid);
  const log = openSync(logFile, 'a');
  const child = spawn(found.program, [config], { ...user, cwd: folder, stdio: ['ignore', log, log] });
  closeSync(log);
  const gone = once(child, 'exit');
  const isGone = (): boolean => child.exitCode !== null || child.signalCode !== null;
  const killNow = (): void => void child.kill('SIGKILL');
  process.once('exit', killNow);
  const stop = async (): Promise<void> => {
    if (!isGone()) child.kill('SIGKILL');
    await gone;
    process.off('exit', killNow);
    rmSync(folder, { recursive: true, force: true });
  };
  const url = (database: string): string => `postgres://sluice@127.0.0.1:${port}/${database}`;
  const giveUpAt = performance.now() + readyMsMax;
  while (!(await answers(url('postgres')))) {
    if (isGone() || performance.now() > giveUpAt) {
      const text = readFileSync(logFile, 'utf8');
      await stop();
      throw new Error(`PgBouncer did not become ready; its log:\n${text}`);
    }
    await pause(50);
  }
  return { url, stop };
}

async function answers(url: string): Promise<boolean> {
  const client = new Client(url);
  client.on('error', () => {});
  try {
    await client.connect();
    await client.end();
    return true;
  } catch {
    return false;
  }
}

/** `SLUICE_TEST_PGBOUNCER`, or the one on PATH. */
function findPgbouncer(): { readonly program: string; readonly tracks: boolean } | null {
  for (const program of [process.env['SLUICE_TEST_PGBOUNCER'], 'pgbouncer', '/usr/sbin/pgbouncer']) {
    if (program === undefined || program === '') continue;
    try {
      const text = execFileSync(program, ['--version'], { stdio: 'pipe' }).toString();
      const [, major = '0', minor = '0'] = /(\d+)\.(\d+)/.exec(text) ?? [];
      const [majorMin, minorMin] = trackingMin;
      const tracks = Number(major) > majorMin || (Number(major) === majorMin && Number(minor) >= minorMin);
      return { program, tracks };
    } catch {
      continue;
    }
  }
  return null;
}
