import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Clock } from '../../src/clock.js';
import { systemClock } from '../../src/clock.js';
import type { RunningServer } from '../../src/app.js';
import { startServer } from '../../src/app.js';
import type { Config } from '../../src/config.js';
import { createLogger } from '../../src/log.js';
import type { TestStorage } from './storage.js';

export const adminToken = 'test-admin-token-0123456789';

/** The settings of a test node: any free port, quiet, the rest as a person would get them. */
export function testConfig(storage: TestStorage, overrides: Partial<Config> = {}): Config {
  return {
    host: '127.0.0.1',
    port: 0,
    listenUrl: null,
    adminToken,
    logLevel: 'silent',
    metricsPort: null,
    shutdownSeconds: 5,
    connectionsMax: 10_000,
    migrate: 'auto',
    workers: 1,
    role: 'all',
    dbPool: 10,
    ingestLanes: 2,
    queueBytesMax: 64 * 1024 * 1024,
    queueAgeMsMax: 5_000,
    ...storage.config,
    ...overrides,
  };
}

/** A node in this process. */
export function startNode(
  storage: TestStorage,
  overrides: Partial<Config> = {},
  clock: Clock = systemClock,
): Promise<RunningServer> {
  const config = testConfig(storage, overrides);
  return startServer(config, createLogger(config.logLevel), () => {}, clock);
}

/** A node in a process of its own, which can be killed. */
export interface NodeProcess {
  readonly address: string;
  readonly pid: number;
  /** The end of what it has written to standard output. */
  output(): string;
  /** Sends the signal and resolves with the exit code, or null if the signal ended it. */
  end(signal: NodeJS.Signals): Promise<number | null>;
}

const main = fileURLToPath(new URL('../../src/main.js', import.meta.url));

/** A node that may not be ready yet. */
export interface StartingNode {
  /** Rejects, with what the node wrote to standard error, if it ends before it is ready. */
  readonly ready: Promise<NodeProcess>;
  end(signal: NodeJS.Signals): Promise<number | null>;
}

/** Resolves when the node says that it is ready. Rejects, with what it wrote to standard error, if it ends before. */
export function spawnNode(
  storage: TestStorage,
  flags: readonly string[] = [],
  nodeFlags: readonly string[] = [],
): Promise<NodeProcess> {
  return beginNode(storage, flags, nodeFlags).ready;
}

/** As `spawnNode`, without waiting until it is ready. */
export function beginNode(
  storage: TestStorage,
  flags: readonly string[] = [],
  nodeFlags: readonly string[] = [],
): StartingNode {
  const place =
    storage.config.databaseUrl === null
      ? ['--data-dir', storage.config.dataDir]
      : ['--database-url', storage.config.databaseUrl];
  const settings = ['--port', '0', '--admin-token', adminToken, '--log-level', 'warn', ...place, ...flags];
  const args = [...nodeFlags, main, ...settings];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let complaints = '';
  let output = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaints = (complaints + text).slice(-20_000);
  });
  const ended = once(child, 'exit') as Promise<[number | null]>;
  const address = new Promise<string>((resolve) => {
    createInterface(child.stdout).on('line', (line) => {
      output = `${output}${line}\n`.slice(-1_000_000);
      const ready = /ready.*?(http:\/\/\S+)/.exec(line)?.[1];
      if (ready !== undefined) resolve(ready);
    });
  });
  const end = async (signal: NodeJS.Signals): Promise<number | null> => {
    child.kill(signal);
    return (await ended)[0];
  };
  const untilReady = async (): Promise<NodeProcess> => {
    const first = await Promise.race([address, ended]);
    if (typeof first !== 'string') throw new Error(`the node ended (${first[0]}) before it was ready: ${complaints}`);
    return { address: first, pid: child.pid ?? 0, output: () => output, end };
  };
  const ready = untilReady();
  // Whoever ends it early need not wait for it.
  ready.catch(() => {});
  return { ready, end };
}
