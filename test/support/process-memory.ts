import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';

const lookMs = 100;

/** Bytes of memory that a process has in use now (Linux). Throws when there is no such process. */
export function residentBytes(pid: number): number {
  const [, kilobytes] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  if (kilobytes === undefined) throw new Error(`process ${pid} has ended`);
  return 1024 * Number(kilobytes);
}

/** Looks ten times a second. Returns what ends that, and rejects with the first look that failed. */
export function lookAgain(look: () => Promise<void> | void): () => Promise<void> {
  const over = new AbortController();
  const watch = async (): Promise<void> => {
    while (!over.signal.aborted) {
      await look();
      await pause(lookMs);
    }
  };
  const watching = watch();
  // Whoever asks hears of it.
  watching.catch(() => {});
  return async () => {
    over.abort();
    await watching;
  };
}

/** Watches its memory. Returns what ends that, and resolves with the most that was seen. */
export function watchMemory(pid: number): () => Promise<number> {
  let most = 0;
  const end = lookAgain(() => {
    most = Math.max(most, residentBytes(pid));
  });
  return async () => {
    await end();
    return most;
  };
}
