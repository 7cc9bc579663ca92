/** `sluice start` with several workers, as processes that can be killed one by one. */
import { once } from 'node:events';
import { begin } from './sluice.js';
import type { TestStorage } from '../support/storage.js';
import { adminToken } from '../support/node.js';

export interface WorkerGroup {
  /** Resolves when the banner is there; rejects, with what was written, when the process ends before, or not in 60 s. */
  ready(): Promise<string>;
  readonly stdout: () => string;
  readonly stderr: () => string;
  /** The process ids of the workers that serve, in the order in which they began. */
  readonly workers: () => number[];
  /** Resolves when one more serves than have by now. */
  oneMore(): Promise<void>;
  /** Resolves when `holds` does of what was written; rejects with it after 60 s. */
  until(holds: () => boolean): Promise<void>;
  signal(signal: NodeJS.Signals): void;
  /** The exit code of the primary, or the signal that ended it. */
  readonly ended: Promise<number | string>;
  /** Resolves when nobody has its output open any more: the primary and all workers have ended. */
  readonly allEnded: Promise<unknown>;
  /** Ends whatever is left of it. */
  end(): Promise<void>;
}

const waitMsMax = 60_000;

export function startWorkerGroup(
  storage: TestStorage,
  flags: readonly string[] = [],
  environment: Readonly<Record<string, string>> = {},
): WorkerGroup {
  const fixed = ['--port', '0', '--workers', '2', '--shutdown-seconds', '5'];
  const child = begin([...fixed, '--database-url', storage.config.databaseUrl ?? '', ...flags], {
    SLUICE_ADMIN_TOKEN: adminToken,
    ...environment,
  });
  const written = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]?.setEncoding('utf8').on('data', (text: string) => {
      written[name] += text;
      child.emit('written');
    });
  }
  const ended = once(child, 'exit').then(([code, signal]: (number | string | null)[]) => code ?? signal ?? 'unknown');
  const allEnded = once(child, 'close');
  const named = (pattern: RegExp): number[] =>
    Array.from(written.stderr.matchAll(pattern), ([, worker]) => Number(worker));
  const begun = (): number[] => named(/"worker":(\d+),"msg":"a worker serves"/g);
  const workers = (): number[] => {
    const over = new Set(named(/"worker":(\d+),.*"msg":"a worker has ended"/g));
    return begun().filter((worker) => !over.has(worker));
  };
  let isOver = false;
  child.once('close', () => {
    isOver = true;
    child.emit('written');
  });
  const until = async (holds: () => boolean): Promise<void> => {
    const giveUp = AbortSignal.timeout(waitMsMax);
    while (!holds()) {
      if (isOver || giveUp.aborted) throw new Error(`${isOver ? 'it ended' : 'it lasts'}: ${JSON.stringify(written)}`);
      await once(child, 'written', { signal: giveUp }).catch(() => {});
    }
  };
  const address = (): string | undefined => /ready at (http:\/\/\S+)/.exec(written.stdout)?.[1];
  return {
    async ready() {
      await until(() => address() !== undefined);
      return address() ?? '';
    },
    stdout: () => written.stdout,
    stderr: () => written.stderr,
    workers,
    until,
    oneMore() {
      const before = begun().length;
      return until(() => begun().length > before);
    },
    signal: (signal) => void child.kill(signal),
    ended,
    allEnded,
    async end() {
      child.kill('SIGKILL');
      for (const pid of workers()) {
        try {
          process.kill(pid, 'SIGKILL');
        } catch {
          // It has ended.
        }
      }
      await allEnded;
    },
  };
}
