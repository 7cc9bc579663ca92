/**
 * `npm run bench -- --flood`: how long one org's single events take while another org floods the node, against the same events alone; what memory
 * that takes; and how much of its speed the node has in the five seconds after. Measured in turns, in one run.
 */
import type { Client } from '../test/support/client.js';
import { createOrg } from '../test/support/client.js';
import { runLoad } from './load.js';
import type { Load } from './load.js';
import { median, percentile } from './numbers.js';
import { timedFor } from './reads.js';
import type { HttpTarget, SluiceTarget } from './targets.js';

/** An org that sends now and then: what is measured is the wait of one event. */
const singlesPerSecond = 50;
const recoverySeconds = 5;

export interface FloodResult {
  readonly 'single p99 ms, quiet': number;
  readonly 'single p99 ms, flooded': number;
  readonly ratio: number;
  /** Of the single events, in both phases. */
  readonly 'singles failed': number;
  readonly 'flood requests/s': number;
  readonly 'flood stored': number;
  /** Of the events stored per second before, in the five seconds after. */
  readonly 'speed after': number;
  /** Not of the bare server. */
  readonly 'memory MB': number;
}

/**
 * Medians over `rounds`. `isLimited`: the org that floods has the rate limit of the largest tier, and what is beyond gets 429. Of the bare server, which
 * has no orgs, it says what of all this is the machine's own: load, database and Node wait for the same processors.
 */
export async function measureFlood(
  target: HttpTarget | SluiceTarget,
  load: Load,
  rounds: number,
  isLimited: boolean,
): Promise<FloodResult> {
  const keyOfNewOrg = async (): Promise<string> =>
    target.kind === 'sluice' ? (await createOrg(target.address)).key : target.key;
  const flooding = isLimited ? { ...target, key: await keyOfNewOrg() } : target;
  let failed = 0;
  const url = `${target.address}/v1/events`;
  const headers = { Authorization: `Bearer ${await keyOfNewOrg()}`, 'Content-Type': 'application/json' };
  const single = async (): Promise<void> => {
    try {
      const reply = await fetch(url, { method: 'POST', headers, body: load.body });
      await reply.text();
      if (!reply.ok) failed++;
    } catch {
      failed++;
    }
  };
  const singles = (): Promise<number[]> => timedFor(singlesPerSecond, load.seconds, single);
  const results: FloodResult[] = [];
  for (let round = 0; round < rounds; round++) {
    failed = 0;
    const before = await runLoad(target, { ...load, seconds: recoverySeconds });
    const quiet = percentile(await singles(), 0.99);
    const [waits, flood] = await Promise.all([singles(), runLoad(flooding, load)]);
    const memory = 'admin' in target ? await memoryBytes(target.admin) : Number.NaN;
    const after = await runLoad(target, { ...load, seconds: recoverySeconds });
    const flooded = percentile(waits, 0.99);
    results.push({
      'single p99 ms, quiet': quiet,
      'single p99 ms, flooded': flooded,
      ratio: flooded / quiet,
      'singles failed': failed,
      'flood requests/s': flood.sentPerSecond,
      'flood stored': flood.success,
      'speed after': after.requestsPerSecond / before.requestsPerSecond,
      'memory MB': memory / 2 ** 20,
    });
  }
  const medianOf = (name: keyof FloodResult): number =>
    Math.round(100 * median(results.map((result) => result[name]))) / 100;
  const [first] = results;
  if (first === undefined) throw new Error('at least one round is needed');
  return Object.fromEntries(
    Object.keys(first).map((name) => [name, medianOf(name as keyof FloodResult)]),
  ) as unknown as FloodResult;
}

async function memoryBytes(admin: Client): Promise<number> {
  return Number(/^process_resident_memory_bytes (\S+)$/m.exec((await admin.get('/metrics')).text)?.[1]);
}
