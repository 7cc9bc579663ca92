import { runPlan } from './load.js';
import { short } from './numbers.js';
import { requireLoopback } from './plan.js';
import { say } from './say.js';
import type { Scenario } from './scenarios.js';

/** A server that somebody else has started, on this machine: refused before the first packet if it is anywhere else. Scenarios of one org without a past only. */
export async function measureGiven(
  address: string,
  scenarios: readonly Scenario[],
  { rounds, seconds, connections }: { readonly rounds: number; readonly seconds: number; readonly connections: number },
): Promise<string> {
  const { origin } = requireLoopback(address);
  const key = process.env['SLUICE_KEY'];
  if (key === undefined || key === '') throw new Error('--target needs a key of the server in SLUICE_KEY');
  const lines = ['| | requests/s | events/s | p50 ms | p99 ms | success % |', '|---|---:|---:|---:|---:|---:|'];
  for (const scenario of scenarios) {
    if (scenario.orgs > 1) {
      say(`${scenario.name} is left out: it needs ${scenario.orgs} orgs`);
      continue;
    }
    for (let round = 1; round <= rounds; round++) {
      const plan = scenario.plan([key], `g${Date.now().toString(36)}`);
      const result = await runPlan({
        address: origin,
        plan,
        rate: null,
        connections: Math.min(connections, scenario.connectionsMax),
        seconds: Math.min(seconds, scenario.secondsMax),
      });
      const { requestsPerSecond, eventsPerSecond, p50, p99, success } = result;
      const figures = [requestsPerSecond, eventsPerSecond, p50, p99, 100 * success].map(short);
      lines.push(`| ${scenario.name}, round ${round} | ${figures.join(' | ')} |`);
      say(`${scenario.name}, round ${round} of ${rounds}: ${short(requestsPerSecond)} requests/s`);
    }
  }
  return lines.join('\n');
}
