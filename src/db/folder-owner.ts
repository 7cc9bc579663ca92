import { createHash } from 'node:crypto';
import { readFile, readlink, stat, statfs } from 'node:fs/promises';
import { hostname } from 'node:os';

/** Who holds a data folder, or wants to, as its file says. What the system cannot tell is left out. */
export interface Owner {
  readonly pid: number;
  /** Names this owner's claim and its socket. Versions before claims wrote none. */
  readonly id?: string;
  /** Device and inode of the folder: the lock file of a copied folder is not about the copy. */
  readonly folder: string;
  readonly host?: string;
  /** Names the machine, beyond its boots. A container has none of its own. */
  readonly machine?: string;
  readonly bootId?: string;
  readonly pidNamespace?: string;
  /** When the process started, in clock ticks since boot: a process id alone is used again. */
  readonly startTime?: string;
}

/** From where an owner is judged. */
export interface Viewpoint {
  readonly me: Owner;
  /** Other machines may have the folder mounted as well. */
  readonly isShared: boolean;
}

/** File systems that one machine at a time has mounted, by the numbers of statfs(2): ext2 to 4, XFS, Btrfs, ZFS, F2FS, bcachefs, tmpfs, overlay. */
const localFileSystems = new Set([
  0xef53, 0x58465342, 0x9123683e, 0x2fc12fc1, 0xf2f52010, 0xca451a4e, 0x01021994, 0x794c7630,
]);

/** This process as an owner of the folder `dir`. Off Linux little more than the process id is known. */
export async function identify(dir: string, id: string): Promise<Viewpoint> {
  const [{ dev, ino }, { type }] = await Promise.all([stat(dir, { bigint: true }), statfs(dir)]);
  const isShared = process.platform === 'linux' && !localFileSystems.has(type);
  const me = { pid: process.pid, id, folder: `${dev}-${ino}`, host: hostname() };
  try {
    const bootId = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
    const pidNamespace = await readlink('/proc/self/ns/pid');
    const startTime = (await processStat('self'))?.startTime;
    if (startTime === undefined) return { me, isShared };
    const machine = await machineId();
    return { me: { ...me, ...(machine === undefined ? {} : { machine }), bootId, pidNamespace, startTime }, isShared };
  } catch {
    return { me, isShared };
  }
}

/** Whether `owner` speaks of the folder that is looked at, and not of one that it was copied from. */
export function isOfThisFolder(owner: Owner, { me, isShared }: Viewpoint): boolean {
  // Device numbers of a shared folder are each machine's own.
  return isShared ? inodeOf(owner) === inodeOf(me) : owner.folder === me.folder;
}

function inodeOf({ folder }: Owner): string {
  return folder.slice(folder.indexOf('-') + 1);
}

export type Life = 'alive' | 'dead' | 'unknown';

/**
 * Whether the owner still runs. A stopped process is alive, a zombie is dead. `probe` says whether the owner's socket is served; it is asked
 * about an owner in another pid namespace of this boot. `unknown` when it runs, if at all, where nothing can be seen of it.
 */
export async function lifeOf(owner: Owner, view: Viewpoint, probe: () => Promise<Life>): Promise<Life> {
  const { me } = view;
  if (owner.bootId === undefined || me.bootId === undefined) {
    if (owner.bootId !== me.bootId || (owner.host ?? me.host) !== me.host) return 'unknown';
    return signalable(owner.pid) ? 'alive' : 'dead';
  }
  if (owner.bootId !== me.bootId) return endedWithItsBoot(owner, view) ? 'dead' : 'unknown';
  // Of one file system mounted twice, each mount has its own sockets.
  if (owner.pidNamespace !== me.pidNamespace) return owner.folder === me.folder ? probe() : 'unknown';
  const found = await processStat(String(owner.pid));
  // Under hidepid, /proc does not show the processes of other users, but a signal tells them from none.
  if (!found) return signalable(owner.pid) ? 'alive' : 'dead';
  return found.startTime === owner.startTime && found.state !== 'Z' && found.state !== 'X' ? 'alive' : 'dead';
}

/**
 * Whether an owner of another boot is one of before this machine was booted, and not one on another machine. A folder that only one machine can
 * have mounted has no other, unless both have names and these differ. One that can be shared must come from a machine of the
 * same id and host name: ids are copied with images, host names repeat among containers.
 */
function endedWithItsBoot(owner: Owner, { me, isShared }: Viewpoint): boolean {
  if (isShared) return owner.machine !== undefined && owner.machine === me.machine && owner.host === me.host;
  return owner.machine === undefined || me.machine === undefined || owner.machine === me.machine;
}

/** The id itself is confidential (machine-id(5)): a hash of it goes into files. */
async function machineId(): Promise<string | undefined> {
  const id = (await readFile('/etc/machine-id', 'utf8').catch(() => '')).trim();
  return /^[0-9a-f]{32}$/.test(id) ? createHash('sha256').update(`sluice ${id}`).digest('hex').slice(0, 16) : undefined;
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
