import { readFile, readlink } from 'node:fs/promises';
import { connect } from 'node:net';

/** Who holds a data folder, as its lock file says. What the system cannot tell is left out. */
export interface Owner {
  readonly pid: number;
  /** Device and inode of the folder: the lock file of a copied folder is not about the copy. */
  readonly folder: string;
  readonly bootId?: string;
  readonly pidNamespace?: string;
  /** When the process started, in clock ticks since boot: a process id alone is used again. */
  readonly startTime?: string;
}

/** This process as an owner of `folder`. Off Linux only the process id is known. */
export async function identify(folder: string): Promise<Owner> {
  const owner = { pid: process.pid, folder };
  try {
    const bootId = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
    const pidNamespace = await readlink('/proc/self/ns/pid');
    const startTime = (await processStat('self'))?.startTime;
    return startTime === undefined ? owner : { ...owner, bootId, pidNamespace, startTime };
  } catch {
    return owner;
  }
}

/** Whether `owner` speaks of the folder that `me` wants. */
export function sameFolder(owner: Owner, me: Owner): boolean {
  return owner.folder === me.folder;
}

/**
 * Whether the owner still runs. A stopped process is alive, a zombie is dead. `unknown` when it runs, if at all, where this process
 * cannot see it and its socket says nothing.
 */
export async function isAlive(owner: Owner, me: Owner, socketPath: string): Promise<'alive' | 'dead' | 'unknown'> {
  if (owner.bootId !== me.bootId) return owner.bootId === undefined || me.bootId === undefined ? 'unknown' : 'dead';
  if (owner.bootId === undefined) return signalable(owner.pid) ? 'alive' : 'dead';
  if (owner.pidNamespace !== me.pidNamespace) return probe(socketPath);
  const stat = await processStat(String(owner.pid));
  // Under hidepid, /proc does not show the processes of other users, but a signal tells them from none.
  if (!stat) return signalable(owner.pid) ? 'alive' : 'dead';
  return stat.startTime === owner.startTime && stat.state !== 'Z' && stat.state !== 'X' ? 'alive' : 'dead';
}

interface ProcessStat {
  readonly state: string;
  readonly startTime: string;
}

async function processStat(pid: string): Promise<ProcessStat | undefined> {
  let text: string;
  try {
    text = await readFile(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  // The second field is the program's name in parentheses and may hold anything; state is field 3, the start time field 22.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state, startTime] = [fields[0], fields[19]];
  return state === undefined || startTime === undefined ? undefined : { state, startTime };
}

function signalable(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** A socket file outlives its process, but then refuses connections; that of a stopped process still accepts them. */
function probe(path: string): Promise<'alive' | 'dead' | 'unknown'> {
  return new Promise((resolve) => {
    const peer = connect({ path });
    peer.once('connect', () => {
      peer.destroy();
      resolve('alive');
    });
    peer.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED' ? 'dead' : 'unknown'));
  });
}
