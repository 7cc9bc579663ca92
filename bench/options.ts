/** The arguments of `npm run bench`. */
import { parseArgs } from 'node:util';
import type { EngineName } from '../test/support/storage.js';
import { chosenScenarios, scenarios, scenariosByDefault } from './scenarios.js';

export const help = `npm run bench -- [mode] [options]

modes
  (none)               bare servers, raw COPY and INSERT, and Sluice, in turns
  --against <commit>   this tree and that commit in pairs of rounds; exits with 1 if this tree is slower
  --self-check         --against itself, --runs times, and a slowdown of a fifth that has to be found
  --target <url>       one server that is running on this machine, with the key in SLUICE_KEY
  --reads, --flood     single reads under load; one org's flood
  --growth             the same loads with 1, 100 and 10,000 orgs, and on logs of --sizes
  --starts             how long the program takes until it is ready, on new storage and again
  --steady             one engine after the other under full load for ten minutes: requests and memory, minute by minute;
                       of the first of --scenarios; takes some 10 GB of the temporary folder
  --micro              the functions of the hot path, alone

options                default
  --scenarios a,b      ${scenariosByDefault}; there are ${scenarios.map(({ name }) => name).join(', ')}
  --all                all of them
  --rounds n           5; of --against, 30 pairs, three to a start of both: at least six starts, an even number; of --steady, 10
  --seconds n          5 a round; of --against, 1; of --steady, 60
  --connections n      100
  --rates a,b          0.5; of open loops: up to 1 a share of the target's closed loop, above requests/s; 0 leaves them out
  --engines a,b        embedded,postgres
  --workers n          also Sluice with so many workers, on PostgreSQL
  --threshold x        0.07; of --against: a smaller difference is none
  --runs n             10; of --self-check
  --sizes a,b          10000,1000000,10000000; events stored, of --growth
  --bytes n            300; of the events of --reads and --flood
  --out folder         bench-results`;

/** Throws with a sentence for what cannot be. */
export function readOptions(args: readonly string[]) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      connections: { type: 'string', default: '100' },
      scenarios: { type: 'string', default: scenariosByDefault },
      all: { type: 'boolean', default: false },
      rates: { type: 'string', default: '0.5' },
      engines: { type: 'string', default: 'embedded,postgres' },
      workers: { type: 'string' },
      out: { type: 'string', default: 'bench-results' },
      against: { type: 'string' },
      threshold: { type: 'string', default: '0.07' },
      'self-check': { type: 'boolean', default: false },
      runs: { type: 'string', default: '10' },
      target: { type: 'string' },
      micro: { type: 'boolean', default: false },
      reads: { type: 'boolean', default: false },
      flood: { type: 'boolean', default: false },
      growth: { type: 'boolean', default: false },
      starts: { type: 'boolean', default: false },
      steady: { type: 'boolean', default: false },
      sizes: { type: 'string', default: '10000,1000000,10000000' },
      bytes: { type: 'string', default: '300' },
      help: { type: 'boolean', default: false },
    },
  });
  const compares = values.against !== undefined || values['self-check'];
  const threshold = Number(values.threshold);
  if (!(threshold > 0 && threshold < 1)) throw new Error(`--threshold is between 0 and 1, not ${values.threshold}`);
  const rates = values.rates.split(',').map(Number);
  if (rates.some((rate) => !(rate >= 0))) throw new Error(`--rates are numbers, not ${values.rates}`);
  return {
    values,
    compares,
    threshold,
    rates: rates.filter((rate) => rate > 0),
    rounds: wholeNumber('rounds', values.rounds ?? (compares ? '30' : values.steady ? '10' : '5')),
    seconds: wholeNumber('seconds', values.seconds ?? (compares ? '1' : values.steady ? '60' : '5')),
    connections: wholeNumber('connections', values.connections),
    bytes: wholeNumber('bytes', values.bytes),
    runs: wholeNumber('runs', values.runs),
    workers: values.workers === undefined ? null : wholeNumber('workers', values.workers),
    engines: values.engines.split(',').map(engineOf),
    sizes: values.sizes.split(',').map((size) => wholeNumber('sizes', size)),
    chosen: values.all ? scenarios : chosenScenarios(values.scenarios),
  };
}

function wholeNumber(name: string, text: string): number {
  const number = Number(text);
  if (!Number.isInteger(number) || number < 1 || number > 1_000_000_000)
    throw new Error(`--${name} is a whole number above 0`);
  return number;
}

function engineOf(name: string): EngineName {
  if (name === 'embedded' || name === 'postgres') return name;
  throw new Error(`no engine "${name}"; there are embedded and postgres`);
}
