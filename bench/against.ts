/**
 * `npm run bench -- --against <commit>`: this tree and a commit, each with a server and a database of its own, in pairs of rounds that take turns in who goes
 * first. What is compared is each pair's ratio, so the machine's drift counts for both. Every few pairs both are started anew, since what one process has
 * and another has not (how it was compiled, where its memory lies) stays with it.
 */
import { execFileSync } from 'node:child_process';
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { EngineName } from '../test/support/storage.js';
import { commitOf, git, root } from './machine.js';
import { measureRound, prepare } from './measure.js';
import type { Prepared, Sample } from './measure.js';
import { compareStarts, median, short, startsMin } from './numbers.js';
import type { Comparison } from './numbers.js';
import { ownedFolder } from './owned.js';
import { print, say } from './say.js';
import type { Scenario } from './scenarios.js';
import type { SluiceOptions, SluiceTarget } from './targets.js';
import { startSluice } from './targets.js';

export interface AgainstOptions {
  /** Pairs of rounds, in all. */
  readonly rounds: number;
  readonly seconds: number;
  readonly connections: number;
  readonly threshold: number;
  readonly engines: readonly EngineName[];
  readonly scenarios: readonly Scenario[];
}

interface Compared extends Comparison {
  readonly engine: EngineName;
  readonly scenario: string;
  /** The median ratio of Node's processor time an event, main threads: it says more than a rate when the machine is busy with something else. */
  readonly cpuRatio: number | null;
}

const plantedSlowdown = 0.2;
/** Then most of what is hot is compiled. */
const warmUpSeconds = 4;
const pairsPerStart = 3;

/** Prints the comparison. Returns 1 if this tree is slower in any of it, else 0. */
export async function reportAgainst(options: AgainstOptions, commit: string): Promise<number> {
  const named = commitOf(commit);
  return inWorktree(named, async (main) => {
    const compared = await compareTrees(options, {}, { name: named, main });
    print(tableOf(compared, `this tree against ${named}`, options));
    return compared.some(({ verdict }) => verdict === 'slower') ? 1 : 0;
  });
}

/** This tree against itself, `runs` times, of which one may claim a difference; then against itself with a planted slowdown, which has to be found. */
export async function selfCheck(options: AgainstOptions, runs: number): Promise<number> {
  let alarms = 0;
  for (let run = 1; run <= runs; run++) {
    say(`against itself, run ${run} of ${runs}`);
    const compared = await compareTrees(options, {}, { name: 'itself' });
    print(tableOf(compared, `run ${run} of ${runs}, against itself`, options));
    if (compared.some(({ verdict }) => verdict !== 'no difference shown')) alarms++;
  }
  say('against itself, with a planted slowdown');
  const slowed = await compareTrees(options, { slowdown: plantedSlowdown }, { name: 'itself' });
  print(tableOf(slowed, `the main thread's work made ${plantedSlowdown * 100} % longer`, options));
  const missed = slowed.filter(({ verdict }) => verdict !== 'slower').length;
  print(
    `false alarms: ${alarms} of ${runs} runs (at most 1); planted slowdown found in ${slowed.length - missed} of ${slowed.length} comparisons`,
  );
  return alarms > 1 || missed > 0 ? 1 : 0;
}

async function compareTrees(options: AgainstOptions, ours: SluiceOptions, theirs: SluiceOptions): Promise<Compared[]> {
  const compared: Compared[] = [];
  const starts = startsOf(options.rounds);
  for (const engine of options.engines) {
    const pairs = new Map<Scenario, Pair[][]>(options.scenarios.map((scenario) => [scenario, []]));
    for (let start = 1; start <= starts; start++) {
      say(`  ${engine}, start ${start} of ${starts}`);
      const isMineFirst = start % 2 === 1;
      const isMeasured = await withBoth(engine, { name: 'this tree', ...ours }, theirs, async (both) => {
        for (const [scenario, ofStarts] of pairs) {
          const ofStart = await measurePairs(both, scenario, options, isMineFirst);
          ofStarts.push(ofStart);
          say(`    ${scenario.name}: ${ofStart.map(({ speed }) => short(speed)).join(', ')}`);
        }
      });
      if (!isMeasured) break;
    }
    for (const [{ name }, ofStarts] of pairs) {
      if (ofStarts.length === 0) continue;
      const cpuRatios = ofStarts.flat().flatMap(({ cpu }) => (cpu === null ? [] : [cpu]));
      const cpuRatio = cpuRatios.length === 0 ? null : median(cpuRatios);
      const speeds = ofStarts.map((ofStart) => ofStart.map(({ speed }) => speed));
      compared.push({ engine, scenario: name, cpuRatio, ...compareStarts(speeds, options.threshold) });
    }
  }
  if (compared.length === 0) throw new Error('nothing could be compared');
  return compared;
}

/** An even number, so that each side goes first as often as the other; and not fewer than a verdict needs. */
function startsOf(rounds: number): number {
  return Math.max(startsMin + 1, 2 * Math.ceil(rounds / pairsPerStart / 2));
}

/** False, with the reason said, where the engine cannot be had. */
async function withBoth(
  engine: EngineName,
  ours: SluiceOptions,
  theirs: SluiceOptions,
  work: (both: readonly [SluiceTarget, SluiceTarget]) => Promise<void>,
): Promise<boolean> {
  const targets: SluiceTarget[] = [];
  try {
    for (const side of [ours, theirs]) {
      const target = await startSluice(engine, side);
      if (target !== null) targets.push(target);
    }
    const [mine, other] = targets;
    if (mine === undefined || other === undefined) {
      say('no PostgreSQL on this machine: compared without it');
      return false;
    }
    await work([mine, other]);
    return true;
  } finally {
    await Promise.all(targets.map((target) => target.stop()));
  }
}

/** This side by the other, in one moment of the machine. */
interface Pair {
  readonly speed: number;
  readonly cpu: number | null;
}

async function measurePairs(
  [mine, other]: readonly [SluiceTarget, SluiceTarget],
  scenario: Scenario,
  { seconds, connections }: AgainstOptions,
  isMineFirst: boolean,
): Promise<Pair[]> {
  const both = [await prepare(mine, scenario), await prepare(other, scenario)] as const;
  const measured = (side: Prepared, duration: number): Promise<Sample> =>
    measureRound(side, scenario, { connections, seconds: duration, rate: null, counts: false });
  // Whoever goes second finds the machine warmer, and the disk busier: so they take turns, from pair to pair and from start to start.
  const order = isMineFirst ? both : both.toReversed();
  for (const side of order) await measured(side, warmUpSeconds);
  const pairs: Pair[] = [];
  for (let pair = 0; pair < pairsPerStart; pair++) {
    const samples = new Map<Prepared, Sample>();
    for (const side of pair % 2 === 0 ? order : order.toReversed()) samples.set(side, await measured(side, seconds));
    const [a, b] = both.map((side) => samples.get(side)) as [Sample, Sample];
    if (a.success < 1 || b.success < 1)
      throw new Error(`requests failed: ${short(a.success)} and ${short(b.success)} succeeded`);
    const isTimed = a.cpuMainPerEvent !== null && b.cpuMainPerEvent !== null;
    pairs.push({ speed: speedOf(a) / speedOf(b), cpu: isTimed ? a.cpuMainPerEvent / b.cpuMainPerEvent : null });
  }
  return pairs;
}

/** In events, or in requests where there are none to be counted. */
function speedOf({ eventsPerSecond, requestsPerSecond }: Sample): number {
  return eventsPerSecond || requestsPerSecond;
}

function tableOf(compared: readonly Compared[], title: string, { rounds, seconds, threshold }: AgainstOptions): string {
  const rows = compared.map(({ engine, scenario, ratio, low, high, cpuRatio, verdict }) => {
    const figures = [ratio, low, high, cpuRatio].map(short);
    return `| ${engine} | ${scenario} | ${figures[0]} | ${figures[1]} … ${figures[2]} | ${figures[3]} | ${verdict} |`;
  });
  return [
    `${title}: ${startsOf(rounds)} starts with ${pairsPerStart} pairs of ${seconds} s each; a difference is one of more than ${short(threshold * 100)} % that chance explains in less than 1 of 20`,
    '',
    '| | | speed | 95 % | Node time an event | |',
    '|---|---|---:|---:|---:|---|',
    ...rows,
    '',
  ].join('\n');
}

/** Builds a commit in a folder of its own, with the packages installed here, and gives `work` its program. */
async function inWorktree<T>(commit: string, work: (main: string) => Promise<T>): Promise<T> {
  const folder = ownedFolder('sluice-against-');
  const tree = join(folder.path, 'tree');
  try {
    say(`building ${commit}`);
    git('worktree', 'add', '--detach', tree, commit);
    if (git('diff', '--name-only', commit, '--', 'package-lock.json') !== '') {
      say('  its packages differ; it runs with those installed here');
    }
    symlinkSync(join(root, 'node_modules'), join(tree, 'node_modules'));
    execFileSync('npm', ['run', '-s', 'build'], { cwd: tree, stdio: ['ignore', 2, 2] });
    return await work(join(tree, 'dist', 'src', 'main.js'));
  } finally {
    folder.remove();
    git('worktree', 'prune');
  }
}
