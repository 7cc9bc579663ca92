import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

const main = fileURLToPath(new URL('../../src/main.js', import.meta.url));

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** Standard output as JSON, a value a line. */
  // Tests read many shapes; a wrong guess fails their assertions.
  // oxlint-disable-next-line typescript/no-explicit-any
  readonly json: () => any[];
}

/** Of the settings of whoever runs the tests none is there; `environment` comes besides. */
export function begin(args: readonly string[], environment: Readonly<Record<string, string>> = {}): ChildProcess {
  const { PATH = '' } = process.env;
  return spawn(process.execPath, [main, ...args], { env: { PATH, ...environment }, stdio: ['pipe', 'pipe', 'pipe'] });
}

/** Runs `sluice` to its end. */
export async function sluice(
  args: readonly string[],
  {
    environment = {},
    input = '',
  }: { readonly environment?: Record<string, string>; readonly input?: string | Buffer } = {},
): Promise<Ended> {
  const child = begin(args, environment);
  if (child.stdin === null || child.stdout === null || child.stderr === null)
    throw new Error('unreachable: all are pipes');
  // A command that has enough ends without reading the rest.
  child.stdin.on('error', () => {}).end(input);
  const [stdout, stderr, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close') as Promise<[number | null]>,
  ]);
  const json = () =>
    stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line));
  return { code, stdout, stderr, json };
}
