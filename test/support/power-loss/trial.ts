import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Disk } from './disk.js';
import type { Inspector } from './inspector.js';
import { Random } from './random.js';
import type { Ledger } from './told.js';
import type { TraceRecord } from './trace.js';
import { isNote, runVictim, untraced } from './victim-run.js';

/** A folder that is on the disk as a whole, and what was promised about it. */
export interface Start {
  readonly base: string;
  readonly ledger: Ledger;
}

export interface Trials {
  readonly start: Start;
  /** A new folder for everything. It is removed by `end`; what is wrong is kept in it till then. */
  readonly folder: string;
  readonly random: Random;
  /** So many losses of power, at moments of one process's work. */
  readonly losses: number;
  readonly steps: number;
  readonly orgs: readonly string[];
  readonly without?: string;
  readonly inspector: Inspector;
}

export interface Outcome {
  /** What one loss did, and what was wrong after it, if anything. */
  readonly losses: readonly {
    readonly report: string;
    readonly flaws: readonly string[];
    readonly acknowledged: number;
  }[];
  /** Where another process can go on: what one of the losses left. */
  readonly next: Start;
}

/**
 * Lets a process work, and takes its power away at some moments: for each a folder as the disk may be then is made and looked at. The losses are
 * independent of each other; what the process did is done once.
 */
export async function losePowerDuringWork({
  start,
  folder,
  random,
  losses,
  steps,
  orgs,
  without,
  inspector,
}: Trials): Promise<Outcome> {
  const seed = random.int(2 ** 31);
  const work = join(folder, 'work');
  const firstEvent = Math.max(0, ...start.ledger.sendings.keys()) + 1;
  const order = { seed, steps, orgs, firstEvent, ...(without !== undefined && { without }) };
  const records = await runVictim({ base: start.base, folder: work, ...order });
  const missed = await untraced(start.base, records, work);
  if (missed.length > 0) throw new Error(`the trace does not tell all that was done to ${missed.join(', ')}`);

  const disk = new Disk(start.base);
  const ledger = start.ledger.copy();
  const moments = pickMoments(records, losses, random);
  const goesOn = random.pick(moments);
  let next = start;
  const done: Outcome['losses'][number][] = [];
  for (const [i, record] of records.entries()) {
    if (isNote(record)) ledger.hear(record);
    else disk.apply(record);
    if (!moments.includes(i)) continue;
    const lossSeed = random.int(2 ** 31);
    const lose = (target: string): string[] => disk.losePower(target, new Random(lossSeed));
    if (i === goesOn) {
      next = { base: join(folder, 'next'), ledger: ledger.copy() };
      lose(next.base);
    }
    const place = join(folder, `loss-${i}`);
    const lost = lose(join(place, 'data', 'pg'));
    const flaws = await inspector.inspect({
      dataDir: join(place, 'data'),
      sendings: ledger.sendings,
      consumed: ledger.consumed,
      orgs,
    });
    const doing = records.slice(0, i).findLast((past) => past.op === 'step')?.name ?? 'opening';
    const report = [
      `record ${i} of ${records.length} (${doing}), seed ${lossSeed}`,
      ...lost,
      ...flaws.map((flaw) => `FLAW ${flaw}`),
    ].join('\n');
    done.push({ report, flaws, acknowledged: ledger.acknowledged });
    if (flaws.length === 0) {
      await rm(place, { recursive: true });
    } else {
      lose(join(place, 'untouched'));
      await writeFile(join(place, 'report'), report);
    }
  }
  return { losses: done, next };
}

/**
 * The first moment is in the start of the engine, just behind the making of a file; the others are behind an acknowledgement, when the most
 * depends on the disk, or anywhere.
 */
function pickMoments(records: readonly TraceRecord[], count: number, random: Random): number[] {
  const indexes = [...records.keys()];
  const answers = indexes.filter((i) => records[i]?.op === 'answered');
  const opened = records.findIndex(({ op }) => op === 'step');
  if (answers.length < count) throw new Error(`only ${answers.length} answers in ${records.length} records`);
  const made = indexes.slice(0, opened).filter((i) => {
    const record = records[i];
    return record?.op === 'open' && record.create;
  });
  const moments = new Set([random.pick(made) + random.int(3)]);
  while (moments.size < count) moments.add(random.chance(0.5) ? random.pick(answers) : random.int(records.length));
  return [...moments];
}
