import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import type { LoadResult, PlannedLoad } from './load.js';
import { owned } from './owned.js';

export type GeneratorJob = PlannedLoad;
export type GeneratorResult = Omit<LoadResult, 'generator'>;

const script = fileURLToPath(new URL('generator.js', import.meta.url));

/** Runs the generator of this folder to its end. Rejects, with what it said, when it fails. */
export async function runGenerator(job: GeneratorJob): Promise<LoadResult> {
  const child = owned(spawn(process.execPath, [script], { stdio: ['pipe', 'pipe', 'inherit'] }));
  child.stdin.end(JSON.stringify(job));
  const [said, [code]] = await Promise.all([text(child.stdout), once(child, 'exit') as Promise<[number | null]>]);
  if (code !== 0) throw new Error(`the load generator ended with ${code}`);
  const generator = `bench/generator.ts${job.rate === null ? '' : ', open loop'}`;
  return { generator, ...(JSON.parse(said) as GeneratorResult) };
}
