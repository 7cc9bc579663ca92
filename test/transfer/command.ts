/** `sluice` as a process of its own. */
import { spawn } from 'node:child_process';
import type { ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { TestStorage } from '../support/storage.js';

const main = fileURLToPath(new URL('../../src/main.js', import.meta.url));

export interface Command {
  readonly child: ChildProcessByStdio<Writable, Readable, Readable>;
  /** When both outputs are read to their ends. */
  readonly ended: Promise<{ readonly code: number | null; readonly stdout: Buffer; readonly stderr: string }>;
}

/** `stdout` is collected, unless the caller reads it from `child`. */
export function sluice(storage: TestStorage, args: readonly string[]): Command {
  const { dataDir, databaseUrl } = storage.config;
  const place = databaseUrl === null ? ['--data-dir', dataDir] : ['--database-url', databaseUrl];
  const child = spawn(process.execPath, [main, ...args, ...place, '--log-level', 'warn'], { stdio: 'pipe' });
  // A child that is killed closes its end.
  child.stdin.on('error', () => {});
  const stdout: Buffer[] = [];
  let stderr = '';
  child.stdout.on('data', (bytes: Buffer) => stdout.push(bytes));
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const closed = once(child, 'close') as Promise<[number | null]>;
  return { child, ended: closed.then(([code]) => ({ code, stdout: Buffer.concat(stdout), stderr })) };
}
