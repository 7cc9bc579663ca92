/** `npm run bench -- --starts`: how long the program takes until it says that it is ready, on storage that is new and on what is there already. */
import type { EngineName } from '../test/support/storage.js';
import { spreadOf } from './numbers.js';
import { say } from './say.js';
import { newStorage, startNode } from './targets.js';

interface StartTimes {
  readonly target: string;
  /** From the start of the process, in milliseconds: median, and the smallest and largest. */
  readonly 'very first, ms': string;
  readonly 'again, ms': string;
}

/** Each round on storage of its own, the engines in turns. Those that cannot be had are left out. */
export async function measureStarts(engines: readonly EngineName[], rounds: number): Promise<StartTimes[]> {
  const took = engines.map((engine) => ({ engine, first: [] as number[], again: [] as number[] }));
  for (let round = 1; round <= rounds; round++) {
    for (const { engine, first, again } of took) {
      const storage = await newStorage(engine);
      if (storage === null) {
        say(`starts, round ${round} of ${rounds}: ${engine} cannot be had on this machine`);
        continue;
      }
      try {
        first.push(await startOnce(storage.flags));
        again.push(await startOnce(storage.flags));
      } finally {
        await storage.remove();
      }
      say(
        `starts, round ${round} of ${rounds}: ${engine}: ${first.at(-1)} ms on new storage, ${again.at(-1)} ms again`,
      );
    }
  }
  return took
    .filter(({ first }) => first.length > 0)
    .map(({ engine, first, again }) => ({
      target: `sluice, ${engine}`,
      'very first, ms': told(first),
      'again, ms': told(again),
    }));
}

async function startOnce(flags: readonly string[]): Promise<number> {
  const startedAtMs = performance.now();
  const node = await startNode(flags);
  const tookMs = Math.round(performance.now() - startedAtMs);
  await node.stop();
  return tookMs;
}

function told(times: readonly number[]): string {
  const spread = spreadOf(times);
  return spread === null ? '' : `${spread.median} (${spread.min} … ${spread.max})`;
}
