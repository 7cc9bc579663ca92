import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Known } from './told.js';

export interface Inspection extends Known {
  readonly dataDir: string;
  readonly orgs: readonly string[];
}

const path = fileURLToPath(new URL('./inspector-process.js', import.meta.url));
/** Ten times what it takes on a machine with other work to do. */
const inspectionMsMax = 90_000;

/**
 * Looks through folders that lost their power, in a process of its own: an engine that goes round for ever in what is damaged, which no timer of
 * its own thread could end, is a flaw like others.
 */
export class Inspector {
  #child: ChildProcess | undefined;

  /** Everything in which the folder is not as it must be, a line each. It is changed by that. One at a time; within 90 s. */
  async inspect(inspection: Inspection): Promise<string[]> {
    // Advanced: it holds maps.
    const child = (this.#child ??= fork(path, { serialization: 'advanced' }));
    const end = new AbortController();
    const timer = setTimeout(() => child.kill('SIGKILL'), inspectionMsMax);
    try {
      child.send(inspection);
      const { signal } = end;
      const answer = once(child, 'message', { signal }) as Promise<[string[]]>;
      const exit = once(child, 'exit', { signal }).then(([code, by]) => {
        this.#child = undefined;
        const how =
          by === 'SIGKILL'
            ? `was still under way after ${inspectionMsMax / 1_000} s`
            : `ended with ${String(code ?? by)}`;
        return [[`looking through it ${how}`]];
      });
      for (const early of [answer, exit]) early.catch(() => {});
      return (await Promise.race([answer, exit]))[0] ?? [];
    } finally {
      clearTimeout(timer);
      end.abort();
    }
  }

  close(): void {
    this.#child?.kill('SIGKILL');
    this.#child = undefined;
  }
}
