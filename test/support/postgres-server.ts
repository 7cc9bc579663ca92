import { execFileSync, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, closeSync, existsSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { Client } from 'pg';

/** A PostgreSQL server for tests, with fsync on, for the superuser `sluice` on 127.0.0.1. */
export interface PostgresServer {
  readonly port: number;
  /** The postmaster's process id; undefined when the server was started by somebody else. */
  readonly pid: number | undefined;
  url(database: string): string;
  /** A new, empty database; resolves with its URL. */
  createDatabase(): Promise<string>;
  /** Signals the postmaster and waits until it is gone. */
  kill(signal: NodeJS.Signals): Promise<void>;
  /** Stops the postmaster, so that it starts no more, and then every process of the server: as on a machine that hangs (Linux). */
  freeze(): void;
  /** Lets them go on. Nothing for a server that is not frozen. */
  thaw(): void;
  /** Starts a server again that was killed or stopped, on its port and folder; recovery included. */
  restart(): Promise<void>;
  /** Stops the server and removes its folder; nothing for a server that somebody else started. */
  stop(): Promise<void>;
}

/** The programs of PostgreSQL, and the user they run as. */
interface Programs {
  readonly bin: string;
  readonly identity: {
    readonly cwd: string;
    readonly env: NodeJS.ProcessEnv;
    readonly uid?: number;
    readonly gid?: number;
  };
}

const readyMsMax = 60_000;

/**
 * Starts a server of its own on a free port, or attaches to the one on `SLUICE_TEST_POSTGRES_PORT`. Resolves with null where there
 * are no binaries (`initdb` and `postgres` on PATH or under /usr/lib/postgresql).
 */
export async function startPostgresServer(): Promise<PostgresServer | null> {
  const given = process.env['SLUICE_TEST_POSTGRES_PORT'];
  return given !== undefined && given !== '' ? attached(Number(given)) : startOwnPostgresServer();
}

/** A server that nobody else uses, to be killed, or to have its settings changed. Null as above. */
export function startOwnPostgresServer(settings: readonly string[] = []): Promise<PostgresServer | null> {
  return startFilled(settings, ({ bin, identity }, data) => {
    const args = ['-D', data, '-U', 'sluice', '--auth=trust', '-E', 'UTF8', '--no-locale', '--no-sync'];
    execFileSync(join(bin, 'initdb'), args, { ...identity, stdio: 'pipe' });
  });
}

/** A standby of `primary` that streams from it, and can be promoted. */
export async function startStandby(primary: PostgresServer): Promise<PostgresServer> {
  const standby = await startFilled([], ({ bin, identity }, data) => {
    const from = ['-h', '127.0.0.1', '-p', String(primary.port), '-U', 'sluice'];
    const args = ['-D', data, '-R', '-X', 'stream', '-c', 'fast', '--no-sync', ...from];
    execFileSync(join(bin, 'pg_basebackup'), args, { ...identity, stdio: 'pipe' });
  });
  if (standby === null) throw new Error('there is a primary, so there are binaries for a standby');
  return standby;
}

/** A server on the folder that `fill` makes. */
async function startFilled(
  settings: readonly string[],
  fill: (programs: Programs, data: string) => void,
): Promise<PostgresServer | null> {
  const bin = findBinaries();
  if (bin === null) return null;
  const user = unprivilegedUser();
  const folder = mkdtempSync(join(tmpdir(), 'sluice-postgres-'));
  const port = await freePort();
  // The postmaster stops and cleans up after itself when its signals cannot come from here any more.
  let server: ChildProcess | undefined;
  const removeAll = (): void => {
    if (server?.exitCode === null && server.signalCode === null) server.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  };
  process.once('exit', removeAll);
  try {
    if (user) chownSync(folder, user.uid, user.gid);
    const identity = { ...user, cwd: folder, env: { ...process.env, LC_ALL: 'C', TZ: 'UTC' } };
    const data = join(folder, 'data');
    const logFile = join(folder, 'log');
    fill({ bin, identity }, data);
    const start = async (): Promise<void> => {
      const all = [
        'fsync=on',
        'max_connections=100',
        'listen_addresses=127.0.0.1',
        `unix_socket_directories=${folder}`,
        ...settings,
      ];
      const args = ['-D', data, '-p', String(port), ...all.flatMap((setting) => ['-c', setting])];
      const giveUpAt = performance.now() + readyMsMax;
      // After a kill -9 the sessions of the old server may live a moment longer; until then the new one refuses to start.
      for (;;) {
        const log = openSync(logFile, 'a');
        server = spawn(join(bin, 'postgres'), args, { ...identity, stdio: ['ignore', log, log] });
        closeSync(log);
        if (await becomesReady(port, server, giveUpAt)) return;
        if (performance.now() > giveUpAt) {
          throw new Error(
            `the PostgreSQL server did not become ready; its log:\n${readFileSync(logFile, 'utf8').slice(-5_000)}`,
          );
        }
        await pause(100);
      }
    };
    const kill = async (signal: NodeJS.Signals): Promise<void> => {
      if (!server || server.exitCode !== null || server.signalCode !== null) return;
      const gone = once(server, 'exit');
      server.kill(signal);
      await gone;
    };
    let frozen: readonly number[] = [];
    const thaw = (): void => {
      // The postmaster last: until then nobody takes away a process that ends, and each can be signalled.
      for (const pid of frozen.toReversed()) process.kill(pid, 'SIGCONT');
      frozen = [];
    };
    await start();
    return {
      ...connections(port),
      freeze() {
        const { pid } = server ?? {};
        if (pid === undefined) return;
        process.kill(pid, 'SIGSTOP');
        frozen = [pid];
        frozen = [pid, ...childrenOf(pid)];
        for (const one of frozen) process.kill(one, 'SIGSTOP');
      },
      thaw,
      get pid() {
        return server?.pid;
      },
      kill,
      restart: start,
      async stop() {
        thaw();
        // SIGINT is PostgreSQL's fast shutdown: sessions are ended, not waited for.
        await kill('SIGINT');
        process.off('exit', removeAll);
        removeAll();
      },
    };
  } catch (error) {
    process.off('exit', removeAll);
    removeAll();
    throw error;
  }
}

const shared = 'the server on SLUICE_TEST_POSTGRES_PORT is shared';
const notOurs = (): Promise<never> => Promise.reject(new Error(shared));

function attached(port: number): PostgresServer {
  const freeze = (): never => {
    throw new Error(shared);
  };
  const stop = (): Promise<void> => Promise.resolve();
  return { ...connections(port), pid: undefined, kill: notOurs, freeze, thaw() {}, restart: notOurs, stop };
}

function connections(port: number): Pick<PostgresServer, 'port' | 'url' | 'createDatabase'> {
  const url = (database: string): string => `postgres://sluice@127.0.0.1:${port}/${database}`;
  return {
    port,
    url,
    async createDatabase() {
      const name = `test_${randomBytes(8).toString('hex')}`;
      const client = new Client(url('postgres'));
      await client.connect();
      await client.query(`CREATE DATABASE ${name} TEMPLATE template0`);
      await client.end();
      return url(name);
    },
  };
}

/** The folder of `initdb` and `postgres`, the newest version first. */
function findBinaries(): string | null {
  const packaged = '/usr/lib/postgresql';
  const versions = existsSync(packaged) ? readdirSync(packaged).toSorted((a, b) => Number(b) - Number(a)) : [];
  const folders = [
    ...versions.map((version) => join(packaged, version, 'bin')),
    ...(process.env['PATH'] ?? '').split(delimiter),
  ];
  return folders.find((folder) => ['initdb', 'postgres'].every((name) => existsSync(join(folder, name)))) ?? null;
}

/** PostgreSQL refuses to run as root. */
export function unprivilegedUser(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  for (const name of ['postgres', 'nobody']) {
    try {
      const id = (flag: string): number => Number(execFileSync('id', [flag, name], { stdio: 'pipe' }).toString());
      return { uid: id('-u'), gid: id('-g') };
    } catch {
      continue;
    }
  }
  throw new Error('no user "postgres" or "nobody" to run PostgreSQL as');
}

/** Those that are still there: while their parent is stopped, nobody takes away those that have ended. */
function childrenOf(parent: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        // Its name, in brackets, may hold anything.
        const [state, itsParent] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? [];
        return state !== 'Z' && Number(itsParent) === parent;
      } catch {
        // It has just ended.
        return false;
      }
    });
}

/** A port of 127.0.0.1 on which nobody listens. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** Whether the server accepts connections before it exits and before `giveUpAt`. */
async function becomesReady(port: number, server: ChildProcess, giveUpAt: number): Promise<boolean> {
  while (server.exitCode === null && server.signalCode === null && performance.now() < giveUpAt) {
    const client = new Client(connections(port).url('postgres'));
    client.on('error', () => {});
    try {
      await client.connect();
      await client.end();
      return true;
    } catch {
      // The server has no signal for "ready" but to accept a connection.
      await pause(50);
    }
  }
  return false;
}
