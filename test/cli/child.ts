import { fork } from 'node:child_process';
import type { Serializable } from 'node:child_process';
import { once } from 'node:events';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';

export interface Child {
  readonly stdout: () => string;
  readonly stderr: () => string;
  /** Resolves with all that was written once it matches; rejects when the process ends without it. */
  saw(stream: 'stdout' | 'stderr', pattern: RegExp): Promise<string>;
  signal(signal: NodeJS.Signals): void;
  send(message: Serializable): void;
  readonly closeStdout: () => void;
  /** The exit code, or the signal that ended it. */
  readonly ended: Promise<number | string>;
}

/** Runs a built module of this folder as a process of its own, with a message channel. It is gone when the test is. */
export function runChild(t: TestContext, module: string, args: readonly string[] = []): Child {
  const path = fileURLToPath(new URL(module, import.meta.url));
  const child = fork(path, args, { execArgv: [], stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
  const { stdout, stderr } = child;
  if (stdout === null || stderr === null) throw new Error('unreachable: both are pipes');
  const written = { stdout: '', stderr: '' };
  for (const [name, stream] of [
    ['stdout', stdout],
    ['stderr', stderr],
  ] as const) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      written[name] += text;
      child.emit('written');
    });
  }
  const ended = once(child, 'close').then(([code, signal]: (number | string | null)[]) => code ?? signal ?? 'unknown');
  t.after(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  return {
    stdout: () => written.stdout,
    stderr: () => written.stderr,
    async saw(stream, pattern) {
      let isOver = false;
      const over = ended.then((end) => {
        isOver = true;
        return end;
      });
      while (!pattern.test(written[stream])) {
        if (isOver) throw new Error(`ended with ${await over} before ${pattern}: ${JSON.stringify(written)}`);
        await Promise.race([once(child, 'written'), over]);
      }
      return written[stream];
    },
    signal: (signal) => void child.kill(signal),
    send: (message) => void child.send(message),
    closeStdout: () => stdout.destroy(),
    ended,
  };
}
