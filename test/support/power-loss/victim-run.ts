import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { cp, mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Disk } from './disk.js';
import type { FileRecord, Note, TraceRecord } from './trace.js';
import { decodeTrace } from './trace.js';
import type { VictimOrder } from './victim.js';

export const victimPath = fileURLToPath(new URL('./victim.js', import.meta.url));
const recorder = new URL('./recorder.js', import.meta.url).href;

export interface VictimRun extends Omit<VictimOrder, 'dataDir' | 'trace'> {
  /** The engine's folder as it is on the disk when the victim starts. It is copied. */
  readonly base: string;
  /** A new folder for the victim's copy and its trace. */
  readonly folder: string;
  /** What is taken out of the product, if anything; see `take-out.ts`. */
  readonly without?: string;
}

/** Ten times what it takes on a machine with other work to do. */
const runMsMax = 180_000;

/** Runs a victim to its end, and returns what it did. Throws if that takes longer than 3 min. */
export async function runVictim({ base, folder, without, ...order }: VictimRun): Promise<TraceRecord[]> {
  const dataDir = join(folder, 'data');
  const cluster = join(dataDir, 'pg');
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  await cp(base, cluster, { recursive: true });
  const trace = join(folder, 'trace');
  const child = spawn(
    process.execPath,
    ['--import', recorder, victimPath, JSON.stringify({ ...order, dataDir, trace })],
    {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: {
        ...process.env,
        POWER_LOSS_FOLDER: cluster,
        POWER_LOSS_TRACE: trace,
        ...(without !== undefined && { POWER_LOSS_WITHOUT: without }),
      },
    },
  );
  let complaints = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaints = (complaints + text).slice(-20_000);
  });
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    child.kill('SIGKILL');
  }, runMsMax);
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  clearTimeout(timer);
  if (isLate) throw new Error(`the victim was still under way after ${runMsMax / 1_000} s: ${complaints}`);
  if (signal !== 'SIGKILL') throw new Error(`the victim ended by itself (${code ?? signal}): ${complaints}`);
  return decodeTrace(readFileSync(trace));
}

export function isNote(record: TraceRecord): record is Note {
  return ['sending', 'answered', 'consumed', 'step'].includes(record.op);
}

/** In which files a folder is not what the trace of its engine says: then the trace is not all that the engine did. */
export async function untraced(base: string, records: readonly TraceRecord[], folder: string): Promise<string[]> {
  const disk = new Disk(base);
  for (const record of records) if (!isNote(record)) disk.apply(record satisfies FileRecord);
  const told = join(folder, 'told');
  disk.writeAll(told);
  const real = join(folder, 'data', 'pg');
  const [expected, actual] = await Promise.all([told, real].map(listFiles));
  const paths = new Set([...(expected ?? []), ...(actual ?? [])]);
  const different: string[] = [];
  for (const path of paths) {
    const [a, b] = await Promise.all([told, real].map((root) => readFile(join(root, path)).catch(() => null)));
    if (a === null || b === null || a === undefined || b === undefined || !a.equals(b)) different.push(path);
  }
  return different;
}

async function listFiles(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1));
}
