/**
 * `npm run bench -- --reads`: how long single reads take while events come in as fast as they are taken, against the same reads alone; and what the
 * reads cost the writes. Idle, writes alone, and both are measured in turns, in one run.
 */
import { Client } from '../test/support/client.js';
import { runLoad } from './load.js';
import type { Load } from './load.js';
import { median, percentile } from './numbers.js';
import type { HttpTarget } from './targets.js';

/** A modest dashboard or two: what is measured is the wait of one read, not how many there can be. */
const readsPerSecond = 50;

interface ReadsResult {
  readonly idleP99: number;
  readonly loadedP99: number;
  /** Events stored per second with the reads beside them, against without. */
  readonly writeRatio: number;
}

/** Medians over `rounds`. Times in milliseconds, each counted from when the read was due. */
export async function measureReads(target: HttpTarget, load: Load, rounds: number): Promise<ReadsResult> {
  const client = new Client(target.address, target.key);
  const first = await client.post('/v1/events', load.body);
  const path = `/v1/events/${first.json.id as string}`;
  const results: ReadsResult[] = [];
  for (let round = 0; round < rounds; round++) {
    const idle = await readFor(client, path, load.seconds);
    const alone = await runLoad(target, load);
    const [loaded, beside] = await Promise.all([readFor(client, path, load.seconds), runLoad(target, load)]);
    const writeRatio = beside.requestsPerSecond / alone.requestsPerSecond;
    results.push({ idleP99: percentile(idle, 0.99), loadedP99: percentile(loaded, 0.99), writeRatio });
  }
  const medianOf = (name: keyof ReadsResult): number => median(results.map((result) => result[name]));
  return { idleP99: medianOf('idleP99'), loadedP99: medianOf('loadedP99'), writeRatio: medianOf('writeRatio') };
}

function readFor(client: Client, path: string, seconds: number): Promise<number[]> {
  return timedFor(readsPerSecond, seconds, async () => {
    const { status } = await client.get(path);
    if (status !== 200) throw new Error(`a read was answered ${status}`);
  });
}

/** How long each of `perSecond` requests took, in milliseconds from when it was due, however long those before it take. */
export async function timedFor(perSecond: number, seconds: number, ask: () => Promise<void>): Promise<number[]> {
  const startedAt = performance.now();
  const asked: Promise<number>[] = [];
  for (let i = 0; i < seconds * perSecond; i++) {
    const dueAt = startedAt + (i * 1000) / perSecond;
    await new Promise<void>((resume) => {
      setTimeout(resume, Math.max(0, dueAt - performance.now()));
    });
    asked.push(ask().then(() => performance.now() - dueAt));
  }
  return Promise.all(asked);
}
