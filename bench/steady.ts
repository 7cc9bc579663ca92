/** `npm run bench -- --steady`: one node under full load for long, stretch by stretch: what grows while it works shows here, and nowhere else. */
import { measureRound, prepare } from './measure.js';
import { short } from './numbers.js';
import { say } from './say.js';
import type { Scenario } from './scenarios.js';
import type { SluiceTarget } from './targets.js';

interface Stretch {
  readonly target: string;
  readonly stretch: number;
  readonly 'requests/s': number;
  readonly 'p99 ms': number;
  /** The largest resident memory of the node. */
  readonly MB: number | null;
}

/** A closed loop: `rounds` stretches of `seconds`, one right behind the other. */
export async function measureSteady(
  target: SluiceTarget,
  scenario: Scenario,
  { rounds, seconds, connections }: { readonly rounds: number; readonly seconds: number; readonly connections: number },
): Promise<Stretch[]> {
  const prepared = await prepare(target, scenario);
  const stretches: Stretch[] = [];
  for (let stretch = 1; stretch <= rounds; stretch++) {
    const sample = await measureRound(prepared, scenario, { connections, seconds, rate: null, counts: false });
    if (sample.success < 1)
      throw new Error(
        `${target.name} refused or broke off requests: ${short(100 * sample.success)} % were answered with a 2xx`,
      );
    const [rate, p99] = [Math.round(sample.requestsPerSecond), Math.round(sample.p99 * 10) / 10];
    const memory = sample.memoryMb === null ? null : Math.round(sample.memoryMb);
    stretches.push({ target: target.name, stretch, 'requests/s': rate, 'p99 ms': p99, MB: memory });
    say(`${target.name}, stretch ${stretch} of ${rounds}: ${rate} requests/s, ${memory ?? '?'} MB`);
  }
  return stretches;
}
