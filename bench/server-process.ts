import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { owned } from './owned.js';

export interface ServerProcess {
  /** `http://127.0.0.1:port` */
  readonly address: string;
  readonly pid: number;
  /** SIGTERM; resolves when it is gone. After 20 s it is killed. */
  readonly stop: () => Promise<void>;
}

const readyMsMax = 60_000;
const stopMsMax = 20_000;

/**
 * Starts `node args…`, and resolves when it writes a line with `ready` and its address. Rejects, with the end of what it wrote to standard error, when it
 * ends before, or is not ready within a minute.
 */
export async function startServerProcess(
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<ServerProcess> {
  const env = { ...process.env, ...environment };
  const child = owned(spawn(process.execPath, [...args], { stdio: ['ignore', 'pipe', 'pipe'], env }));
  let complaints = '';
  child.stderr.setEncoding('utf8').on('data', (said: string) => {
    complaints = (complaints + said).slice(-5_000);
  });
  const ended = once(child, 'exit') as Promise<[number | null]>;
  const ready = new Promise<string>((resolve) => {
    createInterface(child.stdout).on('line', (line) => {
      const address = /ready.*?(http:\/\/\S+)/.exec(line)?.[1];
      if (address !== undefined) resolve(address);
    });
  });
  const late = setTimeout(() => child.kill('SIGKILL'), readyMsMax);
  const first = await Promise.race([ready, ended]);
  clearTimeout(late);
  if (typeof first !== 'string') throw new Error(complaints.trim() || `it ended with ${first[0]} before it was ready`);
  return {
    address: first,
    pid: child.pid ?? 0,
    stop: async () => {
      const stuck = setTimeout(() => child.kill('SIGKILL'), stopMsMax);
      child.kill('SIGTERM');
      await ended;
      clearTimeout(stuck);
    },
  };
}
